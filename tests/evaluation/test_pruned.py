"""Pruned ranking gives what ranking all scores gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nmtr.data.records import CSR, Histories
from nmtr.data.split import Evaluation
from nmtr.evaluation.pruned import best_first, least_of_top
from nmtr.evaluation.ranking import ranks, top
from nmtr.models.base import Shape
from nmtr.models.nmtr import NMTR, Config

USERS, ITEMS = 70, 400
EVERY = pytest.mark.parametrize(
    ("unit", "r"), [(unit, r) for unit in ("gmf", "mlp", "neumf") for r in (2, 3, 4)]
)


def cascade(unit: str, r: int, *, items: int = ITEMS, scale: float = 1.0) -> NMTR:
    torch.manual_seed(r)
    config = Config(unit=unit, embedding=6, layers=(9, 5), init_std=scale)  # type: ignore[arg-type]
    model = NMTR(config, Shape(USERS, items, ("a", "b", "c", "d")[:r])).eval()
    with torch.no_grad():
        model.bias.normal_(0, scale)
        model.item[items // 2 :] = model.item[: items - items // 2]  # every item has a double
        model.bias[items // 2 :] = model.bias[: items - items // 2]
    return model


def drawn(per_user: npt.NDArray[np.int64], items: int, seed: int) -> CSR:
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(per_user)), per_user)
    columns = [rng.choice(items, n, replace=False) for n in per_user]
    return CSR.from_pairs(rows, np.concatenate(columns), len(per_user), items)


def problem(r: int, *, items: int = ITEMS, seed: int = 0) -> tuple[Histories, CSR, Evaluation]:
    """70 users, some of whom have two or no held-out items; their masks leave the truth out."""
    rng = np.random.default_rng(seed)
    truth = drawn(rng.integers(0, 3, USERS), items, seed)
    mask = drawn(rng.integers(0, items // 2, USERS), items, seed + 1)
    mask = mask.without(truth.row_of_each(), truth.indices.astype(np.int64))
    empty = CSR(np.zeros(USERS + 1, np.int64), np.zeros(0, np.int32), items)
    histories = Histories(np.arange(USERS), (empty,) * r)
    no = np.zeros(USERS, np.bool_)
    held = Evaluation(np.arange(USERS), histories, truth, mask, np.zeros(truth.nnz, np.bool_), no)
    return histories, mask, held


@contextmanager
def plainly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NMTR, "cascade", lambda self, state: None)
        yield


def both(model: NMTR, r: int, k: int) -> list[Any]:
    histories, mask, held = problem(r, items=model.shape.n_items)
    order = np.random.default_rng(5).permutation(model.shape.n_items).astype(np.uint64)

    def everything() -> tuple[Any, ...]:
        return ranks(model, held), *top(model, histories, mask, k=k, tie_break=order)

    assert model.cascade(model.encode(histories)) is not None
    pruned = everything()
    with plainly():
        return list(zip(pruned, everything(), strict=True))


@EVERY
@pytest.mark.parametrize("k", [1, 20, ITEMS + 3])
@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_it_ranks_as_all_scores_do(unit: str, r: int, k: int, scale: float) -> None:
    held, items, scores, levels = both(cascade(unit, r, scale=scale), r, k)
    assert np.abs(held[0] - held[1]).max() <= 1  # doubles may differ in a score's last bit
    assert np.mean(held[0] == held[1]) > 0.9
    assert np.mean(items[0] == items[1]) > 0.9
    assert np.allclose(scores[0], scores[1], atol=2e-5)
    same = np.broadcast_to((items[0] == items[1])[:, None], levels[0].shape)
    assert np.allclose(levels[0][same], levels[1][same], atol=2e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    before = torch.get_num_threads()
    model = cascade("neumf", 3)
    histories, mask, held = problem(3)
    order = np.arange(ITEMS).astype(np.uint64)
    try:
        torch.set_num_threads(1)
        expected = ranks(model, held), top(model, histories, mask, k=9, tie_break=order)[0]
        torch.set_num_threads(threads)
        assert np.array_equal(ranks(model, held), expected[0])
        assert np.array_equal(top(model, histories, mask, k=9, tie_break=order)[0], expected[1])
    finally:
        torch.set_num_threads(before)


def test_equal_scores_rank_the_truth_last_and_the_top_by_the_order() -> None:
    model = cascade("gmf", 3)
    with torch.no_grad():
        for each in model.parameters():
            each.zero_()
    held, items, scores, _ = both(model, 3, 25)
    assert np.array_equal(*held)
    assert np.array_equal(*items)
    assert np.array_equal(*scores)


@pytest.mark.parametrize(("bad", "level"), [(np.nan, 2), (np.inf, 2), (-np.inf, 2), (-np.inf, 0)])
def test_scores_that_are_no_numbers_are_treated_alike(bad: float, level: int) -> None:
    model = cascade("gmf", 3)
    with torch.no_grad():
        model.bias[::3, level] = bad
    held, items, scores, _ = both(model, 3, 30)
    assert np.mean(held[0] == held[1]) > 0.9
    assert np.mean(items[0] == items[1]) > 0.9
    finite = np.isfinite(scores[1])
    assert np.array_equal(np.isfinite(scores[0]), finite)
    assert np.allclose(scores[0][finite], scores[1][finite], atol=2e-5)


def test_the_edge_of_the_top_is_reached_by_k_values_and_few_more() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.normal(0, rng.choice([1e-3, 1, 100]), 2000).astype(np.float32)
        values[rng.random(2000) < 0.2] = -np.inf
        k = int(rng.integers(1, 300))
        reached = int((values >= least_of_top(values, k)).sum())
        assert k <= reached <= k + 40
    assert least_of_top(np.array([1, -np.inf, 3], np.float32), 2) == 1
    assert least_of_top(np.full(5, 2, np.float32), 3) == 2


def test_the_best_come_first_and_equals_in_their_order() -> None:
    scores = np.array([1, 3, 3, 2, 3], np.float32)
    order = np.array([0, 9, 2, 0, 5])
    assert best_first(scores, np.arange(5), order).tolist() == [2, 4, 1, 3, 0]
