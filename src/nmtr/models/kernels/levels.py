"""Draw a negative from below the level of a positive."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from nmtr.models.kernels import Int, Ints
from nmtr.models.kernels.chance import STEP, TRIES, below, scramble, share

Items = npt.NDArray[np.int32]
Chances = npt.NDArray[np.float64]
SHORT = 32  # items that are read through sooner than searched


@numba.njit(cache=True, nogil=True, inline="always")
def has(seen: Items, low: Int, high: Int, item: Int) -> bool:
    """Whether the item is among the ascending seen[low:high]: halved while long, then all read."""
    n = high - low
    while n > SHORT:
        half = n >> 1
        low += half if seen[low + half - 1] < item else 0
        n -= half
    found = False
    for at in range(low, low + n):
        found |= seen[at] == item
    return found


@numba.njit(cache=True, nogil=True, inline="always")
def lower(
    user: Int, level: Int, indptr: Ints, items: Items, seen: Items, odds: Chances, beta: float,
    n_items: int, state: np.uint64,
) -> tuple[Int, np.uint64]:  # fmt: skip
    """An item below `level` for the user, -1 where there is none, and the state after it.

    The arrays are those of LevelPairs.
    """
    first = user * len(odds)
    total = 0.0
    for s in range(level):
        if indptr[first + s + 1] > indptr[first + s]:
            total += odds[s]
    if total > 0:
        state += STEP
        mark = share(scramble(state)) - beta
        if mark >= 0:
            mark *= total / (1 - beta)
            chosen = first
            for s in range(level):
                if indptr[first + s + 1] > indptr[first + s] and odds[s] > 0:
                    chosen = first + s
                    mark -= odds[s]
                    if mark < 0:
                        break
            low, high = indptr[chosen], indptr[chosen + 1]
            state += STEP
            return items[low + below(scramble(state), high - low)], state
    low, high = indptr[first], indptr[first + len(odds)]
    for _ in range(TRIES):
        state += STEP
        item = below(scramble(state), n_items)
        if not has(seen, low, high, item):
            return item, state
    return -1, state
