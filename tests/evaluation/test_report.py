"""A report's slices, intervals, vectors and words."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories, Records
from nmtr.data.split import WORDS, Evaluation, Split
from nmtr.errors import DamagedError
from nmtr.evaluation.report import baselines, evaluate, interval, table, to_json
from nmtr.evaluation.vectors import load_vectors, save_vectors
from nmtr.models.base import Model, Shape
from nmtr.training.run import Run

SHAPE = Shape(2, 5, ("view", "buy"))


class Descending(Model):
    """Item 0 first, item 4 last, whoever asks."""

    def encode(self, histories: Histories) -> Tensor:
        return torch.zeros(len(histories), 1)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        return -torch.arange(5.0).expand(len(histories), 2, 5)


def pairs(rows: list[int], columns: list[int]) -> CSR:
    return CSR.from_pairs(np.array(rows, np.int64), np.array(columns, np.int64), 2, 5)


@pytest.fixture
def split() -> Split:
    """User 0: true items 0 (in-funnel) and 3 (new); user 1: item 1 (new), item 0 masked."""
    empty = pairs([], [])
    evaluation = Evaluation(
        users=np.array([0, 1]),
        histories=Histories(np.array([0, 1]), (empty, empty)),
        truth=pairs([0, 0, 1], [0, 3, 1]),
        mask=pairs([1], [0]),
        in_funnel=np.array([True, False, False]),
        sealed=np.zeros(2, np.bool_),
    )
    return Split("time", "test", "target", Records(("view", "buy"), (empty, empty)), evaluation)


def test_slices_by_hand(split: Split) -> None:
    """Ranks are 1 and 4 for user 0, 1 for user 1; a slice counts its own items only."""
    result = evaluate(Descending(None, SHAPE), split, name="descending")
    assert {name: each.tolist() for name, each in result.users.items()} == {
        "all": [0, 1],
        "in-funnel": [0],
        "new": [0, 1],
    }
    second = 1 / np.log2(5)  # of rank 4
    ideal = 1 + 1 / np.log2(3)
    assert result.values["all"]["ndcg@10"] == pytest.approx([(1 + second) / ideal, 1])
    assert result.values["in-funnel"]["ndcg@10"] == pytest.approx([1])
    assert result.values["new"]["ndcg@10"] == pytest.approx([second, 1])
    assert result.summary()["new"]["mrr@10"]["mean"] == pytest.approx((1 / 4 + 1) / 2)


def test_a_slice_without_users_is_left_out(split: Split) -> None:
    split.evaluation.in_funnel[:] = False
    result = evaluate(Descending(None, SHAPE), split, name="descending")
    assert set(result.summary()) == {"all", "new"}


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = interval((rng.random(300) < 0.3).astype(np.float64))
        covered += found["low"] <= 0.3 <= found["high"]
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_is_as_wide_as_the_standard_error_says() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 1000)
    found = interval(values)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.2 / 1000**0.5, rel=0.1)
    assert interval(values) == found


@pytest.mark.parametrize("users", [1, 2, 3])
def test_the_interval_of_equal_values_is_that_value(users: int) -> None:
    found = interval(np.ones(users))
    assert (found["low"], found["mean"], found["high"]) == (1, 1, 1)


def test_vectors_come_back_as_they_were_saved(split: Split, tmp_path: Path) -> None:
    results = [evaluate(Descending(None, SHAPE), split, name="descending"), *baselines(split)]
    save_vectors(results, tmp_path / "vectors.npz")
    found = load_vectors(tmp_path / "vectors.npz")
    assert list(found) == ["descending", "popularity", "replay"]
    for result in results:
        again = found[result.model]
        assert again.users["new"].tolist() == [0, 1]
        for part, values in result.values.items():
            assert again.values[part].keys() == values.keys()
            for metric, each in values.items():
                assert again.values[part][metric] == pytest.approx(each)
    assert [each.name for each in tmp_path.iterdir()] == ["vectors.npz"]


def test_damaged_vectors_are_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "vectors.npz").write_bytes(b"PK and no more")
    with pytest.raises(DamagedError, match="evaluate the run again"):
        load_vectors(tmp_path / "vectors.npz")


@pytest.mark.parametrize(("width", "cutoffs"), [(80, "@10 @50 @100"), (160, "@10 @20 @50 @80")])
def test_the_table_names_protocol_model_popularity_and_replay(
    finished: Run, width: int, cutoffs: str
) -> None:
    split = finished.split()
    results = [evaluate(finished.model, split, name="nmtr-gmf"), *baselines(split)]
    report = json.loads(json.dumps(to_json(results, split)))
    out = io.StringIO()
    Console(file=out, width=width).print(table(report, width=width))
    words = " ".join(out.getvalue().split())
    assert WORDS["time"] in words
    for name in ("nmtr-gmf", "popularity", "replay", "all (", "in-funnel (", "new ("):
        assert name in words
    assert all(each in words for each in cutoffs.split())
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert "…" not in words


def test_baselines_count_the_training_records_only(timed: Interactions, finished: Run) -> None:
    """Popularity's hits are those of the items most bought before the cut."""
    split = finished.split()
    popularity = baselines(split)[0]
    counts = split.train.target.column_counts()
    truth, mask = split.evaluation.truth, split.evaluation.mask
    hits = []
    for row in range(truth.n_rows):
        open_ = np.setdiff1d(np.arange(timed.n_items), mask.row(row))
        rank = [(counts[open_] >= counts[item]).sum() for item in truth.row(row)]
        hits.append(float(min(rank) <= 10))
    found = popularity.values["all"]["hr@10"]
    ties = len({*counts.tolist()}) < timed.n_items
    assert ties  # the bound below is what ties against the model allow
    assert (found >= hits).all()
    assert found.mean() == pytest.approx(np.mean(hits), abs=0.1)


def test_progress_reaches_the_number_of_users(finished: Run) -> None:
    seen: list[tuple[int, int]] = []
    report: Callable[[int, int], None] = lambda done, of: seen.append((done, of))  # noqa: E731
    evaluate(finished.model, finished.split(), name="nmtr-gmf", progress=report)
    assert seen[-1][0] == seen[-1][1] == len(finished.split().evaluation.users)
