"""Pairs of a user's items from three sets: the target's, those between, and the rest."""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Int, Ints
from nmtr.models.kernels.bpr import bpr_step
from nmtr.models.kernels.chance import STEP, TRIES, below, scramble, share
from nmtr.models.kernels.levels import Items, has


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def between_users(
    users: Ints, indptr: Ints, items: Items, seen: Items, above: float, between: float,
    negatives: int, p: Floats, q: Floats, bias: Floats, rate: np.float32, l2: np.float32,
    seed: np.uint64,
) -> tuple[float, int]:  # fmt: skip
    """One pass over these users: the sum of the losses, and of how many triples.

    indptr, items, seen: LevelPairs of two levels. Moves p (M, E), q (N, E) and bias (N,).
    """
    state, loss, steps = seed, 0.0, 0
    for user in users:
        for _ in range((indptr[2 * user + 2] - indptr[2 * user + 1]) * negatives):
            i, j, state = pair(user, indptr, items, seen, above, between, len(q), state)
            if j >= 0:
                loss += bpr_step(p[user], q, bias, i, j, rate, l2)
                steps += 1
    return loss, steps


@numba.njit(cache=True, nogil=True, inline="always")
def pair(
    user: Int, indptr: Ints, items: Items, seen: Items, above: float, between: float,
    n_items: int, state: np.uint64,
) -> tuple[Int, Int, np.uint64]:  # fmt: skip
    """An item to prefer, one to prefer it to (-1 where there is none), and the state after."""
    start, middle, stop = indptr[2 * user], indptr[2 * user + 1], indptr[2 * user + 2]
    state += STEP
    mark = share(scramble(state)) if middle > start else 1.0
    low, high = middle, stop
    if above <= mark < above + between:
        low, high = start, middle
    state += STEP
    i = items[low + below(scramble(state), high - low)]
    if mark < above:
        state += STEP
        return i, items[start + below(scramble(state), middle - start)], state
    for _ in range(TRIES):
        state += STEP
        j = below(scramble(state), n_items)
        if not has(seen, start, stop, j):
            return i, j, state
    return i, -1, state
