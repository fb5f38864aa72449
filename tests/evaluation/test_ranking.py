"""Exact ranking against a full sort: ties count against the model, masked items do not exist."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.split import Evaluation
from nmtr.evaluation import ranking
from nmtr.evaluation.metrics import ndcg
from nmtr.evaluation.ranking import ranks, top
from nmtr.models.base import Model, Shape

Floats = npt.NDArray[np.float32]
quick = settings(max_examples=60, deadline=None)


class Table(Model):
    """Scores that are given: a row for each user."""

    def __init__(self, scores: Floats) -> None:
        super().__init__(None, Shape(scores.shape[0], scores.shape[1], ("low", "high")))
        self.scores = torch.from_numpy(scores)

    def encode(self, histories: Histories) -> Tensor:
        return self.scores[torch.as_tensor(histories.users)]

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        return torch.stack([-state, state], 1)


def sets_of(rows: list[set[int]], n_items: int) -> CSR:
    pairs = np.array([(u, i) for u, items in enumerate(rows) for i in items], np.int64)
    pairs = pairs.reshape(-1, 2)
    return CSR.from_pairs(pairs[:, 0], pairs[:, 1], len(rows), n_items)


def nothing(users: int, n_items: int) -> Histories:
    empty = sets_of([set()] * users, n_items)
    return Records(("low", "high"), (empty, empty)).histories(np.arange(users))


def rank_of(scores: Floats, truth: list[set[int]], mask: list[set[int]]) -> npt.NDArray[np.int64]:
    users, n_items = scores.shape
    flags = np.zeros(users, np.bool_)
    evaluation = Evaluation(
        np.arange(users),
        nothing(users, n_items),
        sets_of(truth, n_items),
        sets_of(mask, n_items),
        np.zeros(sum(map(len, truth)), np.bool_),
        flags,
    )
    return ranks(Table(scores), evaluation)


def best(
    scores: Floats, mask: list[set[int]], k: int, order: list[int]
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    users, n_items = scores.shape
    tie_break = np.array(order, np.uint64)
    return top(
        Table(scores), nothing(users, n_items), sets_of(mask, n_items), k=k, tie_break=tie_break
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Floats, list[set[int]], list[set[int]], list[int]]:
    """Scores with many ties, a truth of 1 to 3 items, masked others, and an order for ties."""
    users, n_items = draw(st.integers(1, 4)), draw(st.integers(3, 9))
    levels = st.integers(-2, 2)
    rows = [draw(st.lists(levels, min_size=n_items, max_size=n_items)) for _ in range(users)]
    items = st.integers(0, n_items - 1)
    truth = [draw(st.sets(items, min_size=1, max_size=3)) for _ in range(users)]
    mask = [draw(st.sets(items)) - each for each in truth]
    order = draw(st.permutations(range(n_items)))
    return np.array(rows, np.float32), truth, mask, list(order)


def full_sort(line: Floats, mask: set[int], order: list[int]) -> list[int]:
    return sorted(set(range(len(line))) - mask, key=lambda item: (-line[item], order[item]))


@quick
@given(problems(), st.sampled_from([1, 20, 10**6]))
def test_ranks_are_places_in_a_full_sort_in_which_the_truth_comes_last_among_equals(
    problem: tuple[Floats, list[set[int]], list[set[int]], list[int]], cells: int
) -> None:
    scores, truth, mask, _ = problem
    expected = []
    for line, true, hidden in zip(scores, truth, mask, strict=True):
        places = full_sort(line, hidden, [int(item in true) for item in range(len(line))])
        by_score: dict[float, list[int]] = {}
        for item in true:  # equals among the true share the places between them
            by_score.setdefault(float(line[item]), []).append(places.index(item) + 1)
        expected.append(sorted(place for each in by_score.values() for place in each))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK_CELLS", cells)
        found = rank_of(scores, truth, mask)
    ends = np.cumsum([len(each) for each in truth])
    assert [sorted(each.tolist()) for each in np.split(found, ends[:-1])] == expected


@quick
@given(problems(), st.integers(1, 12), st.sampled_from([1, 20, 10**6]))
def test_the_top_k_begin_a_full_sort_with_ties_in_the_given_order(
    problem: tuple[Floats, list[set[int]], list[set[int]], list[int]], k: int, cells: int
) -> None:
    scores, _, mask, order = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK_CELLS", cells)
        items, values, levels = best(scores, mask, k, order)
    for at, (line, hidden) in enumerate(zip(scores, mask, strict=True)):
        expected = full_sort(line, hidden, order)[:k]
        absent = k - len(expected)
        assert items[at].tolist() == expected + [-1] * absent
        assert values[at].tolist() == [*line[expected].tolist(), *[-np.inf] * absent]
        assert levels[at, 1].tolist() == values[at].tolist()
        assert levels[at, 0].tolist() == [*(-line[expected]).tolist(), *[-np.inf] * absent]


def test_a_constant_score_ranks_last_among_the_unmasked() -> None:
    scores = np.zeros((2, 10), np.float32)
    assert rank_of(scores, [{4}, {0}], [set(), {1, 2, 3}]).tolist() == [10, 7]


def test_a_masked_item_is_neither_counted_nor_returned() -> None:
    scores = np.array([[9, 8, 7, 1]], np.float32)
    assert rank_of(scores, [{2}], [{0, 1}]).tolist() == [1]
    assert best(scores, [{0, 1}], 2, [0, 1, 2, 3])[0].tolist() == [[2, 3]]


def test_fewer_unmasked_items_than_k_leave_places_empty() -> None:
    scores = np.array([[1, 2, 3]], np.float32)
    items, values, levels = best(scores, [{1}], 5, [0, 1, 2])
    assert items.tolist() == [[2, 0, -1, -1, -1]]
    assert values.tolist() == [[3, 1, -np.inf, -np.inf, -np.inf]]
    assert levels.shape == (1, 2, 5)
    assert np.isneginf(levels[:, :, 2:]).all()


def test_two_true_items_with_one_score_take_the_last_two_places() -> None:
    scores = np.zeros((1, 6), np.float32)
    assert sorted(rank_of(scores, [{1, 4}], [set()]).tolist()) == [5, 6]


def test_one_user_with_two_truths_and_one_with_none_are_not_taken_for_one_each() -> None:
    scores = np.array([[3, 2, 1], [1, 2, 3]], np.float32)
    assert rank_of(scores, [{0, 2}, set()], [set(), set()]).tolist() == [1, 3]


def test_scores_that_are_no_numbers_win_nothing() -> None:
    scores = np.full((1, 8), np.nan, np.float32)
    found = rank_of(scores, [{3}], [{0}])
    assert ndcg(found, np.array([0, 1]), 7).tolist() == [0.0]
    scores[0, 5] = 1.0
    assert best(scores, [set()], 2, list(range(8)))[0].tolist() == [[5, -1]]


def test_a_thousand_truths_of_few_items_need_no_square_of_memory() -> None:
    # Equal truths compared pair by pair would be 16 000 x 16 000 here.
    scores = np.tile(np.arange(4, dtype=np.float32), (8000, 1))
    found = rank_of(scores, [{0, 3}] * 8000, [set()] * 8000)
    assert found.reshape(-1, 2).tolist() == [[4, 1]] * 8000


def test_progress_counts_users() -> None:
    said: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK_CELLS", 6)
        top(
            Table(np.zeros((5, 3), np.float32)),
            nothing(5, 3),
            sets_of([set()] * 5, 3),
            k=1,
            tie_break=np.arange(3, dtype=np.uint64),
            progress=lambda done, of: said.append((done, of)),
        )
    assert said == [(2, 5), (4, 5), (5, 5)]
