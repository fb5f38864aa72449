"""The distinct rows that a batch meets, and L2 on them."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from torch import Tensor

from nmtr.models.kernels import FAST, Floats, Ints

SPARSE = (
    16  # indices there are for each that is met, from which on sorting costs less than counting
)


@dataclass(frozen=True)
class Met:
    """The distinct indices of a batch, ascending; each row's place among them; how often each."""

    indices: Ints
    places: Ints
    times: Ints

    @classmethod
    def of(cls, indices: Tensor, size: int) -> Met:
        """indices (B,), each below size."""
        if size > SPARSE * len(indices):
            met = np.unique(indices.numpy(), return_inverse=True, return_counts=True)
            return cls(*met)
        return cls(*_met(indices.numpy(), size))


@numba.njit(cache=True, nogil=True)
def _met(indices: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    times = np.zeros(size, np.int64)
    for index in indices:
        times[index] += 1
    slot = np.empty(size, np.int64)
    rows = np.empty(min(len(indices), size), np.int64)
    n = 0
    for index in range(size):
        if times[index]:
            slot[index] = n
            rows[n] = index
            n += 1
    places = np.empty(len(indices), np.int64)
    for b in range(len(indices)):
        places[b] = slot[indices[b]]
    return rows[:n], places, times[rows[:n]]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def shrink(rows: Floats, times: Ints, decay: np.float32, grads: Floats) -> float:
    """L2 on rows met so many times: decay / 2 of their squares each time; adds to the gradients."""
    loss = 0.0
    for n in range(len(rows)):
        row, grad, each, norm = rows[n], grads[n], decay * np.float32(times[n]), np.float32(0)
        for e in range(len(row)):
            norm += row[e] * row[e]
            grad[e] += each * row[e]
        loss += float(each * norm)
    return 0.5 * loss
