"""Records of several behaviours as one matrix, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nmtr.data.records import CSR
from nmtr.data.weighted import average_row, check_weights, weighted_sum, weights_of


def csr(*pairs: tuple[int, int]) -> CSR:
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return CSR.from_pairs(rows, columns, 3, 4)


LOOKED, KEPT = csr((0, 0), (0, 1), (2, 3)), csr((0, 1), (0, 2))


def test_a_pair_s_value_is_the_sum_of_the_weights_of_its_behaviours() -> None:
    found = weighted_sum((LOOKED, KEPT), (0.5, 2.0))
    assert found.dtype == np.float32
    assert found.toarray().tolist() == [[0.5, 2.5, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0.5]]


def test_a_behaviour_of_weight_zero_leaves_no_pair_behind() -> None:
    found = weighted_sum((LOOKED, KEPT), (0.0, 1.0))
    assert found.nnz == 2
    assert found.toarray().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_the_average_row_is_that_of_the_rows_that_hold_anything() -> None:
    both = weighted_sum((LOOKED, KEPT), (1.0, 1.0))
    assert average_row(both).toarray().tolist() == [[0.5, 1, 0.5, 0.5]]
    assert average_row(weighted_sum((csr(),), (1.0,))).toarray().tolist() == [[0, 0, 0, 0]]


def test_without_weights_the_target_counts_alone() -> None:
    assert weights_of(("look", "hold", "keep"), ()) == (0, 0, 1)
    assert weights_of(("keep",), ()) == (1,)
    assert weights_of(("look", "keep"), (0.25, 1)) == (0.25, 1)


def test_weights_for_other_behaviours_are_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="expected 2 of them, one for each of look, keep, got 3"):
        weights_of(("look", "keep"), (1, 1, 1))


@pytest.mark.parametrize("weights", [(-1.0, 2.0), (0.0, 0.0), (math.nan, 1.0), (1.0, math.inf)])
def test_weights_that_weigh_nothing_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"non-negative numbers with a positive sum.* got \("):
        check_weights(weights)
