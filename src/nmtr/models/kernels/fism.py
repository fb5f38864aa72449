"""Pairwise updates in place of a user's items, whose vectors together are the user's."""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Ints
from nmtr.models.kernels.bpr import positives, room
from nmtr.models.kernels.levels import Chances, Items, lower


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def fism_users(
    users: Ints, indptr: Ints, items: Items, seen: Items, keep: Chances, odds: Chances, beta: float,
    negatives: int, starts: Items, near: Items, weight: Floats, power: float, p: Floats, q: Floats,
    bias: Floats, rate: np.float32, l2: np.float32, seed: np.uint64,
) -> tuple[float, int]:  # fmt: skip
    """One pass over these users: the sum of the losses, and of how many triples.

    The arrays before `negatives` are those of LevelPairs; starts, near, weight: X (M, N) as CSR.
    Moves p, q (N, E) and bias (N,).
    """
    state, E = seed, q.shape[1]
    positive, level = room(users, indptr, len(keep))
    whole, mine, pull = np.empty(E, np.float32), np.empty(E, np.float32), np.empty(E, np.float32)
    loss, steps, one = 0.0, 0, np.float32(1)
    for user in users:
        n, state = positives(user, indptr, items, keep, positive, level, state)
        low, high = starts[user], starts[user + 1]
        total = np.float32(0)
        for e in range(E):
            whole[e] = 0
        for at in range(low, high):
            row, x = p[near[at]], weight[at]
            total += x
            for e in range(E):
                whole[e] += x * row[e]
        for c in range(n):
            i, own = positive[c], np.float32(0)
            for at in range(low, high):
                if near[at] == i:
                    own = weight[at]
            left = total - own
            scale = np.float32(left**-power) if left > 1e-6 else np.float32(0)
            for e in range(E):
                mine[e] = scale * (whole[e] - own * p[i, e])
                pull[e] = 0
            for _ in range(negatives):
                j, state = lower(user, level[c], indptr, items, seen, odds, beta, len(q), state)
                if j < 0:
                    continue
                ours, theirs = q[i], q[j]
                gap = one - bias[i] + bias[j]
                for e in range(E):
                    gap -= mine[e] * (ours[e] - theirs[e])
                loss += 0.5 * float(gap * gap)
                steps += 1
                move, rest = rate * gap, one - rate * l2
                for e in range(E):
                    a, b = ours[e], theirs[e]
                    pull[e] += move * (a - b)
                    ours[e] = rest * a + move * mine[e]
                    theirs[e] = rest * b - move * mine[e]
                bias[i] = rest * bias[i] + move
                bias[j] = rest * bias[j] - move
            if scale > 0:
                for e in range(E):
                    pull[e] *= scale / np.float32(negatives)
                    whole[e] = 0
                rest = one - rate * l2
                for at in range(low, high):
                    row, x = p[near[at]], weight[at]
                    if near[at] == i:
                        for e in range(E):
                            whole[e] += x * row[e]
                    else:
                        for e in range(E):
                            row[e] = rest * row[e] + x * pull[e]
                            whole[e] += x * row[e]
    return loss, steps
