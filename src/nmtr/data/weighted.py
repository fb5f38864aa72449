"""Records of several behaviours as one weighted matrix, for models that know one kind of record.

Letters: M users, N items, R behaviours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from nmtr.data.records import CSR


def check_weights(weights: Sequence[float]) -> None:
    """Raise ValueError unless these are empty, or non-negative with a positive sum."""
    if weights and not (min(weights) >= 0 and 0 < sum(weights) < math.inf):  # NaN is neither
        raise ValueError(
            "weights: expected non-negative numbers with a positive sum, one per behaviour, the "
            f"target's last, or none for the target alone; got {tuple(weights)}"
        )


def weights_of(behaviors: Sequence[str], weights: Sequence[float]) -> tuple[float, ...]:
    """(R,) the weight of each behaviour; the target's alone is 1 where none are given.

    Raises ValueError where there are more or fewer than behaviours.
    """
    if not weights:
        return (*[0.0] * (len(behaviors) - 1), 1.0)
    if len(weights) != len(behaviors):
        raise ValueError(
            f"weights: expected {len(behaviors)} of them, one for each of {', '.join(behaviors)}, "
            f"got {len(weights)}"
        )
    return tuple(weights)


def weighted_sum(sets: Sequence[CSR], weights: Sequence[float]) -> csr_array:
    """(rows, N) float32: a pair's value is the sum of the weights of the behaviours that have it.

    A behaviour of weight zero is left out.
    """
    total = csr_array((sets[0].n_rows, sets[0].n_columns), dtype=np.float32)
    for each, weight in zip(sets, weights, strict=True):
        if weight:
            values = np.full(each.nnz, weight, np.float32)
            total = total + csr_array((values, each.indices, each.indptr), shape=total.shape)
    return total


def average_row(x: csr_array) -> csr_array:
    """(1, N) the mean of the rows that hold anything; nothing where none does."""
    known = max(np.count_nonzero(np.diff(x.indptr)), 1)
    mean = np.asarray(x.sum(0, dtype=np.float64) / known, np.float32)
    return csr_array(mean[None])
