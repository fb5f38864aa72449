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


@dataclass(frozen=True)
class Levels:
    """The distinct rows of a batch by the highest behaviour that they reach, highest first.

    order (n,): which of them comes at each place; rank (n,): the place of each; counts (R,): how
    many reach each behaviour, which are the first ones.
    """

    order: Ints
    rank: Ints
    counts: Ints

    @classmethod
    def of(cls, met: Met, weight: Tensor) -> Levels:
        """weight (B, R) of the batch's rows."""
        return cls(*_levels(met.places, weight.numpy(), len(met.indices)))

    def starts(self) -> Ints:
        """(R,) where each behaviour's rows begin, when they are laid one after the other."""
        starts: Ints = np.cumsum(self.counts) - self.counts
        return starts


@numba.njit(cache=True, nogil=True)
def depth_of(weight: Floats) -> Ints:
    """(B,) the highest behaviour that weighs in each row of weight (B, R), counted from 1; or 0."""
    n, R = weight.shape
    depth = np.zeros(n, np.int64)
    for b in range(n):
        for r in range(R):
            if weight[b, r] != 0:
                depth[b] = r + 1
    return depth


@numba.njit(cache=True, nogil=True)
def by_depth(depth: Ints, R: int) -> tuple[Ints, Ints]:
    """The places of rows, deepest first and else in order; how many reach each behaviour."""
    counts = np.zeros(R, np.int64)
    for each in depth:
        for r in range(each):
            counts[r] += 1
    place = np.zeros(R + 1, np.int64)  # where the rows of this depth begin
    place[:R] = counts
    order = np.empty(len(depth), np.int64)
    for b in range(len(depth)):
        order[place[depth[b]]] = b
        place[depth[b]] += 1
    return order, counts


@numba.njit(cache=True, nogil=True)
def _levels(places: Ints, weight: Floats, size: int) -> tuple[Ints, Ints, Ints]:
    of_rows = depth_of(weight)
    depth = np.zeros(size, np.int64)
    for b in range(len(places)):
        depth[places[b]] = max(depth[places[b]], of_rows[b])
    order, counts = by_depth(depth, weight.shape[1])
    rank = np.empty(size, np.int64)
    for place in range(size):
        rank[order[place]] = place
    return order, rank, counts


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
