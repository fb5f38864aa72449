"""Logits of a cascade for one user and many items, in compiled code."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from nmtr.models.kernels import CHUNK, FAST, Floats, Ints
from nmtr.models.kernels.mlp import mlp_up


class Cascade(NamedTuple):
    """A cascade of units by probability (NMTR, eq. 4), laid out for B users and all N items.

    p (B, E), q (N, E), bias (N, R); h (R, E) of the GMF units, or (R, 0); the MLPs' first layers
    before activation, level after level, first_p (R * B, H) and first_q (R * N, H); upper (R, S) as
    units.upper_weights has it; the widths of the MLPs' layers. Without MLPs, H = S = 0 and there
    are no widths.

    The highest level adds a probability to its own part, f^R + b^R, which is therefore a *floor*
    of its logit: a logit is at least its floor and at most 1 more.
    """

    p: Floats
    q: Floats
    bias: Floats
    h: Floats
    first_p: Floats
    first_q: Floats
    upper: Floats
    widths: Ints


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def floors(c: Cascade, low: int, high: int) -> Floats:
    """(high - low, N) the floors of users low..high-1."""
    users, N, R = high - low, len(c.q), c.bias.shape[1]
    last = c.bias[:, R - 1].copy()
    out = np.empty((users, N), np.float32)
    if c.h.shape[1]:
        np.dot(c.p[low:high] * c.h[R - 1], c.q.T, out)
        for user in range(users):
            out[user] += last
    else:
        for user in range(users):
            out[user] = last
    if len(c.widths):
        hidden = np.empty(CHUNK * c.widths.sum(), np.float32)
        all_items = np.arange((R - 1) * N, R * N).reshape(1, N)
        reach = np.empty(1, np.int64)
        for user in range(users):
            same = np.full((1, CHUNK), (R - 1) * len(c.p) + low + user)
            line = out[user : user + 1]
            for start in range(0, N, CHUNK):
                reach[0] = min(CHUNK, N - start)
                mlp_up(
                    c.first_p, c.first_q, c.upper[R - 1 :], c.widths, same,
                    all_items[:, start:], reach, hidden, line[:, start:],
                )  # fmt: skip
    return out


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def levels(c: Cascade, user: int, items: Ints, floor: Floats, z: Floats) -> None:
    """z (R, n) the logits of one user's n items, whose floors are known."""
    n, R, E = len(items), z.shape[0], c.h.shape[1]
    for r in range(R - 1):
        for x in range(n):
            z[r, x] = c.bias[items[x], r]
    if E:
        ours = c.h[: R - 1] * c.p[user]
        for x in range(n):
            theirs = c.q[items[x]]
            for r in range(R - 1):
                weights, total = ours[r], np.float32(0)
                for e in range(E):
                    total += weights[e] * theirs[e]
                z[r, x] += total
    if len(c.widths):
        hidden = np.empty((R - 1) * CHUNK * c.widths.sum(), np.float32)
        same, theirs_at = np.empty((R - 1, CHUNK), np.int64), np.empty((R - 1, n), np.int64)
        for r in range(R - 1):
            same[r] = r * len(c.p) + user
            theirs_at[r] = r * len(c.q) + items
        reach = np.empty(R - 1, np.int64)
        for start in range(0, n, CHUNK):
            reach[:] = min(CHUNK, n - start)
            mlp_up(
                c.first_p, c.first_q, c.upper[: R - 1], c.widths, same, theirs_at[:, start:],
                reach, hidden, z[:, start:],
            )  # fmt: skip
    for x in range(n):
        for r in range(1, R - 1):
            z[r, x] += sigmoid(z[r - 1, x])
        z[R - 1, x] = floor[x] + sigmoid(z[R - 2, x])


@numba.njit(cache=True, nogil=True, inline="always")
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-abs(x))
    y: np.float32 = (np.float32(1) if x >= 0 else small) / (np.float32(1) + small)
    return y
