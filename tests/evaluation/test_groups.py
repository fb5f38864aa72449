"""Groups of users by activity, and metrics among sampled items."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.evaluation.groups import by_activity
from nmtr.evaluation.sampled import sampled_ranks


def test_the_paper_s_first_group_and_the_others_by_equal_counts() -> None:
    counts = np.array([4, 5, 8, 9, 9, 10, 11, 12, 30])
    found = by_activity(counts, groups=4, first=(5, 8))
    assert [each.name for each in found] == ["5-8", "9", "10-11", "12-30"]
    assert [each.rows.tolist() for each in found] == [[1, 2], [3, 4], [5, 6], [7, 8]]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 6))
def test_groups_hold_every_user_once_in_order_of_activity(values: list[int], groups: int) -> None:
    counts = np.array(values, np.int64)
    found = by_activity(counts, groups=groups)
    assert len(found) <= groups
    rows = [row for each in found for row in each.rows.tolist()]
    assert sorted(rows) == list(range(len(values)))
    for one, other in pairwise(found):
        assert one.high < other.low
    for each in found:
        assert (counts[each.rows].min(), counts[each.rows].max()) == (each.low, each.high)


def test_distinct_counts_make_groups_of_equal_size() -> None:
    sizes = [len(each.rows) for each in by_activity(np.arange(1000), groups=5)]
    assert sizes == pytest.approx([200] * 5, abs=1)


def test_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        by_activity(np.arange(3), groups=1, first=(0, 1))


def test_sampled_ranks_are_those_of_drawing_negatives() -> None:
    rng = np.random.default_rng(0)
    full, candidates, negatives, times = 8, 30, 10, 20_000
    others = np.array([each for each in range(1, candidates + 1) if each != full])
    drawn = [1 + (rng.permutation(others)[:negatives] < full).sum() for _ in range(times)]
    found = sampled_ranks(np.full(times, full), np.full(times, candidates), negatives=negatives)
    for rank in range(1, negatives + 2):
        assert (found == rank).mean() == pytest.approx((np.array(drawn) == rank).mean(), abs=0.012)


def test_with_every_negative_drawn_the_rank_is_the_full_one() -> None:
    ranks = np.array([1, 5, 10])
    assert sampled_ranks(ranks, np.array([10, 10, 10]), negatives=99).tolist() == [1, 5, 10]


def test_a_rank_past_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="from 1 to the number"):
        sampled_ranks(np.array([4]), np.array([3]))
