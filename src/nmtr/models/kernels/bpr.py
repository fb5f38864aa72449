"""Pairwise updates in place, positive after positive: no batches, no gradient arrays.

A user's positives come together: their vector then stays in the nearest cache, and only the rows
of two items travel. Users come in the order given, a user's positives in an order of chance, so
that no item's index decides which is learned last.
"""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Int, Ints
from nmtr.models.kernels.chance import STEP, below, scramble, share
from nmtr.models.kernels.levels import Chances, Items, lower


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def bpr_users(
    users: Ints, indptr: Ints, items: Items, seen: Items, keep: Chances, odds: Chances, beta: float,
    negatives: int, p: Floats, q: Floats, bias: Floats, rate: np.float32, l2: np.float32,
    seed: np.uint64,
) -> tuple[float, int]:  # fmt: skip
    """One pass over these users: the sum of the losses, and of how many triples.

    The arrays before `negatives` are those of LevelPairs; each positive gets so many of them. Moves
    p (M, E), q (N, E) and bias (N,).
    """
    state = seed
    positive, level = room(users, indptr, len(keep))
    loss, steps = 0.0, 0
    for user in users:
        n, state = positives(user, indptr, items, keep, positive, level, state)
        for c in range(n * negatives):
            c %= n
            j, state = lower(user, level[c], indptr, items, seen, odds, beta, len(q), state)
            if j >= 0:
                loss += bpr_step(p[user], q, bias, positive[c], j, rate, l2)
                steps += 1
    return loss, steps


@numba.njit(cache=True, nogil=True)
def room(users: Ints, indptr: Ints, R: int) -> tuple[Items, Items]:
    """Two arrays that hold the positives of any of these users, and their levels."""
    longest = 0
    for user in users:
        longest = max(longest, indptr[(user + 1) * R] - indptr[user * R])
    return np.empty(longest, np.int32), np.empty(longest, np.int32)


@numba.njit(cache=True, nogil=True, inline="always")
def positives(
    user: Int, indptr: Ints, items: Items, keep: Chances, positive: Items, level: Items,
    state: np.uint64,
) -> tuple[int, np.uint64]:  # fmt: skip
    """How many pairs of the user an epoch meets, laid out in an order of chance; and the state."""
    R, n = len(keep), 0
    for r in range(R):
        for at in range(indptr[user * R + r], indptr[user * R + r + 1]):
            if keep[r] < 1:
                state += STEP
                if share(scramble(state)) >= keep[r]:
                    continue
            state += STEP
            place = below(scramble(state), n + 1)
            positive[n], level[n] = positive[place], level[place]
            positive[place], level[place] = items[at], r
            n += 1
    return n, state


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def bpr_step(
    p: Floats, q: Floats, bias: Floats, i: Int, j: Int, rate: np.float32, l2: np.float32
) -> float:
    """One step of SGD on log(1 + exp(-x)), x = b_i - b_j + p . (q_i - q_j), and L2; the former."""
    ours, theirs = q[i], q[j]
    x = bias[i] - bias[j]
    for e in range(len(p)):
        x += p[e] * (ours[e] - theirs[e])
    one = np.float32(1)
    small = np.exp(-abs(x))
    move = rate * (small if x >= 0 else one) / (one + small)
    rest = one - rate * l2
    for e in range(len(p)):
        u, a, b = p[e], ours[e], theirs[e]
        p[e] = rest * u + move * (a - b)
        ours[e] = rest * a + move * u
        theirs[e] = rest * b - move * u
    bias[i] = rest * bias[i] + move
    bias[j] = rest * bias[j] - move
    return float(max(-x, np.float32(0)) + np.log(one + small))
