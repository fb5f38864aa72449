"""A whole step of Adagrad on a cascade of GMF units: loss, gradient and update in one pass.

The rows of a batch come user by user. A user's gradient is therefore whole, and made use of, when
the next user comes; an item's is added up beside the table until the batch is over. So nothing is
gathered, no gradient is laid out as a tensor, and each row of a table is moved once a batch.
`CascadeLoss` with `optim.Adagrad` is the reference that this is tested against.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from nmtr.models.kernels import CHUNK, FAST, Floats, Ints
from nmtr.models.kernels.logistic import logistic
from nmtr.models.kernels.prefetch import prefetch

HALF, ONE = np.float32(0.5), np.float32(1)
AHEAD = 8  # rows before they are needed


class Tables(NamedTuple):
    """What is learned and Adagrad's sums of squares beside it: users, items, biases.

    p, p_squares (M, E); q, q_squares (N, E); bias, bias_squares (N, R).
    """

    p: Floats
    p_squares: Floats
    q: Floats
    q_squares: Floats
    bias: Floats
    bias_squares: Floats


class Sums(NamedTuple):
    """Room for the items' gradients, all zero between batches.

    q (N, E); bias (N, R); times (N,), how often the batch has met each item; met (N,).
    """

    q: Floats
    bias: Floats
    times: Ints
    met: Ints

    @classmethod
    def of(cls, tables: Tables) -> Sums:
        n = len(tables.q)
        zeros = np.zeros_like(tables.q), np.zeros_like(tables.bias), np.zeros(n, np.int64)
        return cls(*zeros, np.zeros(n, np.int64))


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def gmf_step(
    u: Ints, i: Ints, target: Floats, weight: Floats, lambdas: Floats, kind: int, l2: float,
    rate: float, eps: float, h: Floats, tables: Tables, sums: Sums,
) -> tuple[float, Floats]:  # fmt: skip
    """Move the tables; the loss before, and the gradient (R, E) of h, which stays as it is.

    u, i (B,), target, weight (B, R): the batch; lambdas (R,); kind: cascade.KINDS; l2, rate and
    eps: the row's, Adagrad's.
    """
    p, q, bias = tables.p, tables.q, tables.bias
    p_squares, q_squares, b_squares = tables.p_squares, tables.q_squares, tables.bias_squares
    g_q, g_b, met_times, met = sums.q, sums.bias, sums.times, sums.met
    R, E = h.shape
    share = np.float32(1 / max(len(u), 1))
    decay, rate32, eps32 = np.float32(l2) * share, np.float32(rate), np.float32(eps)
    up, down, whole = np.empty((R, E), np.float32), np.empty((R, E), np.float32), np.zeros_like(h)
    slope, g_h = np.empty((1, E), np.float32), np.zeros_like(h)
    z, y = np.empty((R, CHUNK), np.float32), np.empty((R, CHUNK), np.float32)
    g, softplus = np.empty((R, CHUNK), np.float32), np.empty(CHUNK, np.float32)
    bits, depth = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.int64)
    row_of, below = np.empty((R, CHUNK), np.int64), np.empty((R, CHUNK), np.int64)
    reach = np.empty(R, np.int64)
    loss, ahead, user, times, n_met = 0.0, -1, -1, 0, 0
    for start in range(0, len(u), CHUNK):
        n = min(CHUNK, len(u) - start)
        reach[:] = 0
        for c in range(n):  # up: a row's logits as far as a behaviour weighs
            row, item = start + c, i[start + c]
            if row + AHEAD < len(u):
                prefetch(q, i[row + AHEAD])
                prefetch(p, u[row + AHEAD])
            if u[row] != ahead:
                ahead = u[row]
                times_h(h, p, ahead, up)
            depth[c] = 0
            for r in range(R):
                if weight[row, r] != 0:
                    depth[c] = r + 1
            for r in range(depth[c]):
                at = reach[r]
                z[r, at] = dot(up, r, q, item) + bias[item, r]
                row_of[r, at] = row
                below[r, at] = reach[r - 1] - 1
                reach[r] = at + 1
        for r in range(R):
            m = reach[r]
            if r and kind:
                for at in range(m):
                    if kind == 1:
                        z[r, at] += y[r - 1, below[r, at]]
                    else:
                        z[r, at] = HALF * (z[r, at] + z[r - 1, below[r, at]])
            logistic(z[r, :m], y[r], softplus, bits)
            for at in range(m):
                row = row_of[r, at]
                scale = weight[row, r] * lambdas[r] * share
                loss += float(scale * (softplus[at] - target[row, r] * z[r, at]))
                g[r, at] = scale * (y[r, at] - target[row, r])
        for r in range(R - 1, 0, -1):
            for at in range(reach[r]):
                under = below[r, at]
                if kind == 1:
                    g[r - 1, under] += g[r, at] * y[r - 1, under] * (ONE - y[r - 1, under])
                elif kind == 2:
                    g[r, at] *= HALF
                    g[r - 1, under] += g[r, at]
        reach[:] = 0
        for c in range(n):  # down: to the sums of the user's rows, and of the item
            row, item = start + c, i[start + c]
            if row + AHEAD < len(u):
                prefetch(g_q, i[row + AHEAD])
                prefetch(p_squares, u[row + AHEAD])
            if u[row] != user:
                if user >= 0:
                    each = decay * np.float32(times)
                    loss += end_user(user, each, h, whole, slope, g_h, rate32, eps32, p, p_squares)
                user, times = u[row], 0
                times_h(h, p, user, down)
            times += 1
            if met_times[item] == 0:
                met[n_met] = item
                n_met += 1
            met_times[item] += 1
            for r in range(depth[c]):
                each = g[r, reach[r]]
                reach[r] += 1
                g_b[item, r] += each
                add(each, q, item, whole, r)
                add(each, down, r, g_q, item)
    if user >= 0:
        each = decay * np.float32(times)
        loss += end_user(user, each, h, whole, slope, g_h, rate32, eps32, p, p_squares)
    for at in range(n_met):
        item = met[at]
        if at + AHEAD < n_met:
            for table in (q, g_q, q_squares):
                prefetch(table, met[at + AHEAD])
        each = decay * np.float32(met_times[item])
        squares = adagrad(q, q_squares, item, g_q, item, each, rate32, eps32)
        squares += adagrad(bias, b_squares, item, g_b, item, each, rate32, eps32)
        loss += float(HALF * each * squares)
        met_times[item] = 0
    return loss, g_h


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def end_user(
    user: int, decay: np.float32, h: Floats, whole: Floats, slope: Floats, g_h: Floats,
    rate: np.float32, eps: np.float32, p: Floats, squares: Floats,
) -> float:  # fmt: skip
    """Move a user, whose slopes by h * p are in `whole`, which is cleared; the loss of its L2."""
    R, E = h.shape
    for e in range(E):
        slope[0, e] = 0
    for r in range(R):
        product(whole, r, h, r, slope, 0)
        product(whole, r, p, user, g_h, r)
        for e in range(E):
            whole[r, e] = 0
    return float(HALF * decay * adagrad(p, squares, user, slope, 0, decay, rate, eps))


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def times_h(h: Floats, p: Floats, user: int, out: Floats) -> None:
    for r in range(h.shape[0]):
        for e in range(h.shape[1]):
            out[r, e] = h[r, e] * p[user, e]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def dot(a: Floats, j: int, b: Floats, k: int) -> np.float32:
    """a[j] . b[k]."""
    total = np.float32(0)
    for e in range(a.shape[1]):
        total += a[j, e] * b[k, e]
    return total


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def product(a: Floats, j: int, b: Floats, k: int, to: Floats, at: int) -> None:
    """to[at] += a[j] * b[k]."""
    one, other, sums = a[j], b[k], to[at]
    for e in range(len(one)):
        sums[e] += one[e] * other[e]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def add(scale: np.float32, a: Floats, j: int, b: Floats, k: int) -> None:
    """b[k] += scale a[j]."""
    one, sums = a[j], b[k]
    for e in range(len(one)):
        sums[e] += scale * one[e]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def adagrad(
    table: Floats, squares: Floats, row: int, grads: Floats, at: int, decay: np.float32,
    rate: np.float32, eps: np.float32,
) -> np.float32:  # fmt: skip
    """Move a row by grads[at] and L2, clear that; the sum of the row's squares before."""
    norm = np.float32(0)
    for e in range(table.shape[1]):
        value = table[row, e]
        norm += value * value
        grad = grads[at, e] + decay * value
        grads[at, e] = 0
        total = squares[row, e] + grad * grad
        squares[row, e] = total
        table[row, e] = value - rate * grad / (np.sqrt(total) + eps)
    return norm
