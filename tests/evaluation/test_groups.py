"""Groups of users by activity."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.evaluation.groups import by_activity, group_means
from nmtr.evaluation.report import interval


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


def test_a_group_s_mean_is_that_of_its_users() -> None:
    counts, hits = np.array([5, 9, 8, 9]), np.array([1.0, 0.0, 0.0, 0.0])
    found = group_means(by_activity(counts, groups=2, first=(5, 8)), hits)
    assert list(found) == ["5-8", "9"]
    assert (found["5-8"]["mean"], found["5-8"]["users"]) == (0.5, 2)
    assert found["5-8"] == interval(np.array([1.0, 0.0]))
    assert (found["9"]["mean"], found["9"]["low"], found["9"]["high"]) == (0, 0, 0)
