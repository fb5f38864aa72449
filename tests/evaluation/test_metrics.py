"""Metrics against hand-worked values and against ir-measures."""

from __future__ import annotations

import math
from itertools import pairwise

import ir_measures
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from nmtr.errors import UsageError
from nmtr.evaluation.metrics import (
    CUTOFFS,
    METRICS,
    hit_rate,
    ndcg,
    parse,
    per_user,
    recall,
    reciprocal_rank,
)

Ints = npt.NDArray[np.int64]
N = 30


def ragged(lists: list[list[int]]) -> tuple[Ints, Ints]:
    """Ranks of all users after one another, and where each user's begin."""
    return (
        np.array([rank for each in lists for rank in each], np.int64),
        np.cumsum([0, *map(len, lists)]).astype(np.int64),
    )


users = st.lists(
    st.lists(st.integers(1, N), min_size=1, max_size=N, unique=True), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(users, st.sampled_from([1, 3, 10, 50]))
def test_metrics_are_those_of_ir_measures(lists: list[list[int]], k: int) -> None:
    qrels = [
        ir_measures.Qrel(f"{user:03}", str(rank), 1)
        for user, ranks in enumerate(lists)
        for rank in ranks
    ]
    run = [
        ir_measures.ScoredDoc(f"{user:03}", str(rank), float(N - rank))
        for user in range(len(lists))
        for rank in range(1, N + 1)
    ]
    functions = {
        Success @ k: hit_rate,
        R @ k: recall,
        nDCG @ k: ndcg,
        RR @ k: reciprocal_rank,
    }
    expected: dict[tuple[object, str], float] = {
        (each.measure, each.query_id): each.value
        for each in ir_measures.iter_calc(list(functions), qrels, run)
    }
    for measure, function in functions.items():
        found = function(*ragged(lists), k)
        for user in range(len(lists)):
            assert found[user] == pytest.approx(expected[measure, f"{user:03}"], abs=1e-9)


@pytest.mark.parametrize(
    ("rank", "value"), [(1, 1.0), (3, 0.5), (7, 1 / 3), (2, 1 / math.log2(3)), (11, 0.0)]
)
def test_ndcg_of_one_true_item_is_told_by_its_rank(rank: int, value: float) -> None:
    found = ndcg(*ragged([[rank]]), 10)
    assert found.tolist() == [pytest.approx(value, abs=1e-15)]


def test_hand_worked_values_of_two_true_items() -> None:
    ranks, indptr = ragged([[3, 1], [20, 4]])
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(ranks, indptr, 10).tolist() == pytest.approx(
        [1.5 / ideal, 1 / math.log2(5) / ideal]
    )
    assert recall(ranks, indptr, 10).tolist() == [1.0, 0.5]
    assert hit_rate(ranks, indptr, 3).tolist() == [1.0, 0.0]
    assert reciprocal_rank(ranks, indptr, 10).tolist() == [1.0, 0.25]


def test_more_true_items_than_places_can_still_be_ranked_perfectly() -> None:
    ranks, indptr = ragged([list(range(1, 21))])
    assert ndcg(ranks, indptr, 10).tolist() == [pytest.approx(1.0)]
    assert recall(ranks, indptr, 10).tolist() == [0.5]


@settings(max_examples=30, deadline=None)
@given(users)
def test_with_one_true_item_recall_is_the_hit_rate(lists: list[list[int]]) -> None:
    ranks, indptr = ragged([each[:1] for each in lists])
    for k in (1, 5, 20):
        assert recall(ranks, indptr, k).tolist() == hit_rate(ranks, indptr, k).tolist()


@settings(max_examples=30, deadline=None)
@given(users)
def test_a_user_s_value_does_not_depend_on_who_else_is_there(lists: list[list[int]]) -> None:
    whole = per_user(*ragged(lists))
    for at, each in enumerate(lists):
        alone = per_user(*ragged([each]))
        for name, values in whole.items():
            assert values[at] == alone[name][0]  # to the bit


@settings(max_examples=30, deadline=None)
@given(users)
def test_every_metric_lies_between_0_and_1_and_hits_grow_with_k(lists: list[list[int]]) -> None:
    found = per_user(*ragged(lists), (1, 2, 5, 10, N))
    for values in found.values():
        assert values.shape == (len(lists),)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    for kind in ("hr", "recall", "mrr"):
        for low, high in pairwise((1, 2, 5, 10, N)):
            assert (found[f"{kind}@{low}"] <= found[f"{kind}@{high}"]).all()
    assert (found[f"recall@{N}"] == 1).all()


def test_the_cut_offs_are_those_of_the_protocols() -> None:
    assert CUTOFFS == (10, 20, 50, 80, 100, 200)
    assert METRICS == ("hr", "ndcg", "recall", "mrr")


def test_every_metric_has_a_value_at_every_cut_off() -> None:
    found = per_user(*ragged([[1]]))
    assert set(found) == {f"{kind}@{k}" for kind in METRICS for k in CUTOFFS}
    assert all(parse(name) == name for name in found)
    assert parse("NDCG@100") == "ndcg@100"


@pytest.mark.parametrize("name", ["ndcg", "ndcg@", "ndcg@7", "map@10", "ndcg@010", "hr@1²", ""])
def test_an_unknown_metric_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected hr\|ndcg\|recall\|mrr@10\|20"):
        parse(name)
