"""Two stages: an index finds candidates, the model ranks them, and nothing else changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from nmtr.cli import run as nmtr
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR, Histories
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.models.nmtr import NMTR
from nmtr.serving import index as indexes
from nmtr.serving import twostage
from nmtr.serving.ranker import Ranked, Ranker
from nmtr.serving.recommender import Recommender
from nmtr.serving.rules import Rules
from nmtr.training.run import Run, Settings, execute
from nmtr.training.trainer import Training, train

needs_faiss = pytest.mark.skipif(
    find_spec("faiss") is None, reason="the extra ann is not installed"
)
BEHAVIORS = ("view", "cart", "buy")


def model_of(options: dict[str, Any], *, users: int = 40, items: int = 300, r: int = 3) -> Model:
    """An untrained model whose scores spread as a trained one's do."""
    torch.manual_seed(3)
    model = make("nmtr", {"embedding": 6, "init_std": 0.8, **options},
                 Shape(users, items, ("a", "b", "c")[:r]))  # fmt: skip
    with torch.no_grad():
        for name, each in model.named_parameters():
            if name == "bias" or name.endswith(".h"):
                each.normal_(0, 0.7)
    return model.eval()


def masks(model: Model, most: int) -> CSR:
    rng = np.random.default_rng(1)
    users, items = model.shape.n_users, model.shape.n_items
    lengths = rng.integers(0, most + 1, users)
    columns = [rng.choice(items, n, replace=False) for n in lengths]
    rows = np.repeat(np.arange(users), lengths)
    return CSR.from_pairs(rows, np.concatenate(columns), users, items)


def ranked(model: Model, mask: CSR, k: int, *, candidates: int = 0, shift: Any = None) -> Ranked:
    users, items = model.shape.n_users, model.shape.n_items
    empty = CSR(np.zeros(users + 1, np.int64), np.zeros(0, np.int32), items)
    histories = Histories(np.arange(users), (empty,) * model.shape.n_behaviors)
    order = np.random.default_rng(2).permutation(items).astype(np.uint64)
    with torch.inference_mode():
        state = model.encode(histories)
        ranker = Ranker(model, order, candidates=candidates, sample=histories)
        return ranker.best(state, histories, mask, k, shift)


def same(one: Ranked, other: Ranked) -> None:
    """The same items but for scores that differ in a last bit, and the same logits."""
    np.testing.assert_allclose(one.scores, other.scores, atol=2e-5)
    equal = one.items == other.items
    assert equal.mean() > 0.99
    levels = np.broadcast_to(equal[:, None], one.levels.shape)
    np.testing.assert_allclose(one.levels[levels], other.levels[levels], atol=2e-5)


@needs_faiss
@pytest.mark.parametrize(
    "options",
    [{}, {"cascade": "logit"}, {"cascade": "none"}],
    ids=["by probability", "by logit", "none"],
)
@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("most", [0, 299])
def test_with_as_many_candidates_as_items_it_is_the_exact_ranking(
    options: dict[str, Any], penalised: bool, most: int
) -> None:
    model = model_of(options)
    mask = masks(model, most)
    shift = np.linspace(0, 2, 300, dtype=np.float32) if penalised else None
    for k in (1, 20, 300):
        exact = ranked(model, mask, k, shift=shift)
        same(ranked(model, mask, k, candidates=300, shift=shift), exact)


@needs_faiss
def test_compiled_and_plain_second_stages_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of({})
    mask, shift = masks(model, 40), np.linspace(0, 1, 300, dtype=np.float32)
    compiled = ranked(model, mask, 10, candidates=50, shift=shift)
    monkeypatch.setattr(NMTR, "cascade", lambda self, state, like=None: None)
    same(ranked(model, mask, 10, candidates=50, shift=shift), compiled)


@needs_faiss
@pytest.mark.parametrize("most", [0, 30, 290])
def test_candidates_are_the_best_products_of_what_is_not_masked_as_many_as_asked_for(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of({})
    mask = masks(model, most)
    asked: list[int] = []
    search = indexes.Index.search

    def watched(self: indexes.Index, queries: Any, count: int) -> Any:
        asked.append(count)
        return search(self, queries, count)

    monkeypatch.setattr(indexes.Index, "search", watched)
    stages = twostage.TwoStages(model, np.arange(300), 20)
    vectors, queries = model.index_vectors(), model.user.detach().numpy()  # type: ignore[operator]
    asked_for = stages._asked(model.user)  # type: ignore[arg-type]
    assert vectors is not None
    products = queries @ vectors[:, :-1].detach().numpy().T + vectors[:, -1].detach().numpy()
    found = stages._candidates(stages._index(None), asked_for, mask, 20)
    for user, own in enumerate(found):
        line = products[user].copy()
        line[mask.row(user)] = -np.inf
        left = int(np.isfinite(line).sum())
        assert len(own) == min(20, left) or set(own) == set(np.flatnonzero(np.isfinite(line)))
        assert set(np.argsort(-line)[: min(20, left)]) <= set(own.tolist())
    assert asked == ([20] if most == 0 else sorted(asked))
    assert most < 290 or len(asked) > 1, "whoever was left too few was asked for again"


@needs_faiss
@pytest.mark.parametrize("laid_out", [False, True])
def test_lists_that_are_all_looked_into_give_products_in_their_order(
    laid_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turning vectors about, so that lists lie well, moves no item before another."""
    monkeypatch.setattr(indexes, "EXACT", 100)
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(400, 7)) + 3 * rng.normal(size=7)).astype(np.float32)
    users = (rng.normal(size=(30, 7)) * np.logspace(-1, 1, 7) + 1).astype(np.float32)
    index = indexes.Index(vectors, users if laid_out else None)
    assert index.lists == 80
    products = users.astype(np.float64) @ vectors.T
    best = -np.sort(-products, axis=1)[:, :60]
    found = np.take_along_axis(products, index.search(users, 60), 1)  # more than an eighth
    np.testing.assert_allclose(found, best, rtol=1e-3, atol=1e-3)


@needs_faiss
def test_the_second_stage_orders_candidates_by_the_whole_cascade() -> None:
    model = model_of({})
    mask = masks(model, 30)
    found = ranked(model, mask, 15, candidates=30)
    rows = torch.arange(40)
    with torch.inference_mode():
        exact = model.score(model.user[rows], None)  # type: ignore[index, arg-type]
    for user in range(40):
        own = found.items[user]
        assert not set(own.tolist()) & set(mask.row(user).tolist())
        np.testing.assert_allclose(found.scores[user], exact[user, own].numpy(), atol=2e-5)
        assert (np.diff(found.scores[user]) <= 0).all()


@pytest.fixture(scope="module")
def shop_of_thousands(tmp_path_factory: pytest.TempPathFactory) -> Interactions:
    folder = tmp_path_factory.mktemp("thousands") / "shop"
    simulate(SimulatorConfig(users=1500, items=3000, events=60_000), folder)
    log = read_events([folder / "events-*.parquet"], ReadOptions(behaviors=BEHAVIORS))
    return prepare(log, behaviors=BEHAVIORS, holdout="random")


@needs_faiss
def test_recall_of_the_best_200_on_a_small_log_is_above_its_bound(
    shop_of_thousands: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 95 % of the exact best 200 are among what 600 of 3,000 items give, by lists too."""
    records = shop_of_thousands.records()
    torch.manual_seed(0)
    model = make("nmtr-gmf", {"embedding": 16}, Shape(records.n_users, records.n_items, BEHAVIORS))
    train(model, records, Training(threads=1), phase="refit", epochs=4)
    exact = ranked(model, records.target, 200)
    for most in (indexes.EXACT, 100):
        monkeypatch.setattr(indexes, "EXACT", most)
        found = ranked(model, records.target, 200, candidates=600)
        assert recall(found.items, exact.items) > 0.95


def recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    pairs = zip(found, exact, strict=True)
    return float(np.mean([np.isin(best, own).mean() for own, best in pairs]))


RULES = [Rules(), Rules(exclude="seen"), Rules(popularity_penalty=0.3), Rules(exclude="nothing")]


@needs_faiss
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("slice_", ["all", "new", "in-funnel"])
def test_histories_rules_and_slices_hold_as_before(
    finished: Run, rules: Rules, slice_: Any
) -> None:
    users = [*finished.data.users.ids.head(30).to_list(), "nobody"]
    asked: dict[str, Any] = {"k": 10, "slice": slice_, "rules": rules}
    exact = Recommender.of(finished).recommend(users, **asked)
    every = Recommender.of(finished, candidates=finished.data.n_items).recommend(users, **asked)
    assert_frame_equal(every, exact, abs_tol=1e-5)
    some = Recommender.of(finished, candidates=12).recommend(users, **asked)
    counts = [each.group_by("user_id").len().sort("user_id") for each in (some, exact)]
    assert_frame_equal(*counts)


@needs_faiss
def test_the_command_writes_the_exact_list_where_every_item_is_a_candidate(
    finished: Run, tmp_path: Path
) -> None:
    files = [tmp_path / "exact.parquet", tmp_path / "two.parquet"]
    for out, more in zip(files, ([], ["--candidates", "150"]), strict=True):
        assert nmtr(["recommend", str(finished.path), "--all", "--out", str(out), *more]) == 0
    exact, two = map(pl.read_parquet, files)
    place, item = ["user_id", "rank"], ["user_id", "item_id"]
    by_place = [each.select(*place, "score") for each in (two, exact)]
    assert_frame_equal(*by_place, abs_tol=1e-5)
    values = [each for each in exact.columns if exact[each].dtype == pl.Float32]
    both = two.join(exact, on=item, suffix="_exact")
    assert len(both) >= 0.999 * len(exact), "scores that rounding alone parts may change places"
    again = both.select(*item, *(f"{each}_exact" for each in values)).rename(
        {f"{each}_exact": each for each in values}
    )
    assert_frame_equal(both.select(*item, *values), again, abs_tol=1e-5)


@needs_faiss
def test_a_unit_that_is_no_product_is_refused(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    execute(timed, small("nmtr-neumf", epochs=1), tmp_path / "run")
    out = tmp_path / "recs.parquet"
    command = ["recommend", str(tmp_path / "run"), "--all", "--out", str(out)]
    assert nmtr([*command, "--candidates", "50"]) == 2
    assert "no inner products" in capsys.readouterr().err
    assert not out.exists()


def test_without_faiss_it_says_what_to_install(
    finished: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    user = str(finished.data.users.ids[0])
    assert nmtr(["recommend", str(finished.path), "--users", user, "--candidates", "50"]) == 2
    assert "pip install 'nmtr[ann]'" in capsys.readouterr().err


@pytest.mark.parametrize("count", [-1, 19])
def test_fewer_candidates_than_items_asked_for_are_refused(
    finished: Run, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    user = str(finished.data.users.ids[0])
    command = ["recommend", str(finished.path), "--users", user, f"--candidates={count}"]
    assert nmtr(command) == 2
    assert f"expected 20 or more, as many as -k asks for, got {count}" in capsys.readouterr().err
    if count < 0:
        with pytest.raises(UsageError, match=r"expected 1 or more, got -1|nmtr\[ann\]"):
            Recommender.of(finished, candidates=count)
