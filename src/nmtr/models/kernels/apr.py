"""Pairwise updates in place against an adversary, positive after positive."""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Int, Ints
from nmtr.models.kernels.bpr import positives, room
from nmtr.models.kernels.levels import Chances, Items, lower

TINY = np.float32(1e-12)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def apr_users(
    users: Ints, indptr: Ints, items: Items, seen: Items, keep: Chances, odds: Chances, beta: float,
    negatives: int, p: Floats, q: Floats, bias: Floats, rate: np.float32, l2: np.float32,
    epsilon: np.float32, adversary: np.float32, seed: np.uint64,
) -> tuple[float, int]:  # fmt: skip
    """As bpr_users, by steps of APR."""
    state = seed
    positive, level = room(users, indptr, len(keep))
    loss, steps = 0.0, 0
    for user in users:
        n, state = positives(user, indptr, items, keep, positive, level, state)
        for c in range(n * negatives):
            c %= n
            j, state = lower(user, level[c], indptr, items, seen, odds, beta, len(q), state)
            if j >= 0:
                i = positive[c]
                loss += apr_step(p[user], q, bias, i, j, rate, l2, epsilon, adversary)
                steps += 1
    return loss, steps


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def apr_step(
    p: Floats, q: Floats, bias: Floats, i: Int, j: Int, rate: np.float32, l2: np.float32,
    epsilon: np.float32, adversary: np.float32,
) -> float:  # fmt: skip
    """One step of SGD on both losses and L2; their sum, L2 apart.

    With s = p . d, the moved score is s - 2 epsilon |p| - epsilon |d| + 2 epsilon^2 s / (|p| |d|).
    """
    ours, theirs = q[i], q[j]
    s, pp, dd = np.float32(0), np.float32(0), np.float32(0)
    for e in range(len(p)):
        d = ours[e] - theirs[e]
        s += p[e] * d
        pp += p[e] * p[e]
        dd += d * d
    by_p, by_d = epsilon / max(np.sqrt(pp), TINY), epsilon / max(np.sqrt(dd), TINY)
    two = np.float32(2)
    x = bias[i] - bias[j] + s
    moved = x - two * by_p * pp - by_d * dd + two * by_p * by_d * s
    own, hers = slope(x), adversary * slope(moved)
    rest, push = np.float32(1) - rate * l2, rate * (own + hers)
    for e in range(len(p)):
        u, a, b = p[e], ours[e], theirs[e]
        d = a - b
        p[e] = rest * u + push * d - rate * hers * two * by_p * u
        move = push * u - rate * hers * by_d * d
        ours[e] = rest * a + move
        theirs[e] = rest * b - move
    bias[i] = rest * bias[i] + push
    bias[j] = rest * bias[j] - push
    return float(softplus(-x) + adversary * softplus(-moved))


@numba.njit(cache=True, nogil=True, inline="always")
def slope(x: np.float32) -> np.float32:
    """1 / (1 + exp(x)) without overflow."""
    small, one = np.exp(-abs(x)), np.float32(1)
    found: np.float32 = (small if x >= 0 else one) / (one + small)
    return found


@numba.njit(cache=True, nogil=True, inline="always")
def softplus(x: np.float32) -> np.float32:
    """log(1 + exp(x)) without overflow."""
    found: np.float32 = max(x, np.float32(0)) + np.log1p(np.exp(-abs(x)))
    return found
