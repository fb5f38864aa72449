"""Bundles are judged as they would have served, and promoted only where a loss is ruled out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR
from nmtr.data.split import split
from nmtr.data.vocabulary import Vocabulary
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.serving.bundle import open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.refresh.judging import judge, values_of
from nmtr.serving.refresh.options import Options
from nmtr.training.run import Run, Settings, execute, open_run

OPTIONS = Options(behaviors=("view", "buy"), least_users=10)


@pytest.fixture(scope="module")
def read(
    timed: Interactions, small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run of a model whose states are read off the histories, as when it serves."""
    path = tmp_path_factory.mktemp("read") / "run"
    execute(timed, small("ials"), path)
    return open_run(path)


def test_it_finds_what_the_exact_ranking_finds(read: Run, tmp_path: Path) -> None:
    parts = read.split()
    write_bundle(read, tmp_path / "b.nmtr", trained=parts.train)
    evaluation = parts.evaluation
    expected = per_user(ranks(read.model, evaluation), evaluation.truth.indptr)["ndcg@10"]
    found = values_of(open_bundle(tmp_path / "b.nmtr"), read.data, evaluation, "ndcg@10")
    assert expected.mean() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_a_bundle_knows_of_the_window_is_not_used_and_ids_count_not_places(
    finished: Run, tmp_path: Path
) -> None:
    data, parts = finished.data, finished.split()
    path = tmp_path / "b.nmtr"
    write_bundle(finished, path, trained=parts.train)
    found = values_of(open_bundle(path), data, parts.evaluation, "ndcg@20")

    # The same log with its items in reverse, some of them not known to the bundle.
    n = data.n_items
    turned = np.arange(n)[::-1]
    ids = data.items.ids.gather(turned.tolist())
    there = parts.evaluation

    def turn(rows: CSR) -> CSR:
        turned = n - 1 - rows.indices.astype(np.int64)
        return CSR.from_pairs(rows.row_of_each(), turned, rows.n_rows, n)

    other = replace(
        there,
        truth=turn(there.truth),
        mask=turn(there.mask),
        histories=replace(there.histories, items=tuple(map(turn, there.histories.items))),
    )
    again = values_of(open_bundle(path), replace(data, items=Vocabulary(ids)), other, "ndcg@20")
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_users_and_items_that_a_bundle_does_not_know_make_no_error(
    finished: Run, tmp_path: Path
) -> None:
    data, parts = finished.data, finished.split()
    write_bundle(finished, tmp_path / "b.nmtr")
    lost = data.items.ids.cast(int) + 10**9
    found = values_of(
        open_bundle(tmp_path / "b.nmtr"), replace(data, items=Vocabulary(lost)), parts.evaluation,
        "ndcg@20",
    )  # fmt: skip
    assert found.tolist() == [0.0] * len(parts.evaluation.users)
    renamed = Vocabulary("x" + data.users.ids)
    found = values_of(
        open_bundle(tmp_path / "b.nmtr"), replace(data, users=renamed), parts.evaluation, "ndcg@20"
    )
    assert found.mean() > 0, "strangers are folded in"


def test_who_is_equal_is_promoted_and_who_loses_is_not() -> None:
    values = np.random.default_rng(0).random(400)
    others = {"incumbent": values, "anchor": values}
    assert judge(values, others, OPTIONS).promote
    worse = judge(values * 0.97, others, OPTIONS)
    assert not worse.promote
    assert worse.against["incumbent"]["relative"] == pytest.approx(-0.03)
    assert "1.0% is not ruled out" in worse.why


def test_a_loss_against_the_anchor_alone_is_enough() -> None:
    values = np.random.default_rng(0).random(400)
    verdict = judge(values, {"incumbent": values * 0.9, "anchor": values * 1.1}, OPTIONS)
    assert not verdict.promote
    assert verdict.why.count("ruled out") == 2


def test_noise_rules_nothing_out() -> None:
    rng = np.random.default_rng(0)
    verdict = judge(rng.random(60), {"incumbent": rng.random(60)}, OPTIONS)
    assert not verdict.promote


def test_few_users_and_an_incumbent_that_finds_nothing_tell_nothing() -> None:
    values = np.ones(9)
    few = judge(values, {"incumbent": values}, OPTIONS)
    assert not few.promote
    assert "--window" in few.why
    nothing = judge(np.ones(400), {"incumbent": np.zeros(400)}, OPTIONS)
    assert not nothing.promote
    assert "next to nothing" in nothing.why


def test_the_window_is_the_fold_that_training_left_out(timed: Interactions) -> None:
    parts = split(timed, "time", fold="test")
    assert timed.time is not None
    cut = int(timed.holdout["cut"])
    before = timed.records(np.asarray(timed.time) < cut)
    assert [each.nnz for each in before.sets] == [each.nnz for each in parts.train.sets]
