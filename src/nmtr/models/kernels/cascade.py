"""The loss of a cascade of units and its gradient in one pass over the rows of a batch, on a CPU.

Plain torch moves every pair's vectors and hidden layers through memory a dozen times; here a chunk
of rows goes up and down the whole cascade while it stays in cache, and the chunks are shared out to
threads. `NMTR.plain_loss` is the reference that this is tested against.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from nmtr.models.kernels import CHUNK, FAST, Floats, Ints
from nmtr.models.kernels.gmf import gmf_down, gmf_up
from nmtr.models.kernels.logistic import logistic
from nmtr.models.kernels.mlp import mlp_down, mlp_up
from nmtr.models.kernels.rows import shrink
from nmtr.models.kernels.threads import in_threads

KINDS = {"none": 0, "probability": 1, "logit": 2}
LEAST = 512  # rows a thread is worth


class CascadeLoss(torch.autograd.Function):
    """The weighted log loss of a batch through R units of GMF, MLP or both, plus L2 on its rows.

    Inputs: p (U, E), q (N, E) and bias (N, R), the rows that the batch meets; h (R, E) of the GMF
    units or (R, 0); first_p (U, R * H), first_q (N, R * H), the MLPs' first layers before
    activation (relu), or (., 0); upper (R, S), each MLP's weights above as `upper_weights` lays
    them out. Then which users and items the rows met; target, weight (B, R); lambdas (R,); the
    widths of the MLP's layers, the cascade's kind, and l2.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *learned, users, items, target, weight, lambdas, widths, kind, l2 = inputs
        values = [each.detach().numpy() for each in learned]
        rows = (users.places, items.places, target.numpy(), weight.numpy())
        share = np.float32(1 / max(len(target), 1))
        fixed = (lambdas.numpy(), np.array(widths, np.int64), KINDS[kind], share)
        loss, grads = _in_threads(values, rows, fixed)
        if l2:
            for at, met in enumerate((users, items, items)):  # p, q and bias
                loss += shrink(values[at], met.times, np.float32(l2) * share, grads[at])
        ctx.grads = grads
        return torch.tensor(loss, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        outer = float(outputs[0])
        grads = [torch.from_numpy(each) for each in ctx.grads]
        if outer != 1:
            grads = [outer * each for each in grads]
        return (*grads, *[None] * 8)


def _in_threads(
    values: list[Any], rows: tuple[Any, ...], fixed: tuple[Any, ...]
) -> tuple[float, list[Floats]]:
    """The loss and the gradient of each of `values`, the rows cut between users into parts."""
    u = rows[0]
    cuts = user_cuts(u, torch.get_num_threads())
    of_users = (0, 4)  # p and first_p: parts have users of their own, and add to one array
    whole = {at: np.zeros_like(values[at]) for at in of_users}

    def part(low: int, high: int) -> tuple[float, list[Floats]]:
        grads = [whole[at] if at in whole else np.zeros_like(v) for at, v in enumerate(values)]
        return cascade_rows(low, high, *rows, *fixed, *values, *grads), grads

    parts = in_threads(part, cuts)
    loss, grads = parts[0]
    for more, others in parts[1:]:
        loss += more
        for at, (ours, theirs) in enumerate(zip(grads, others, strict=True)):
            if at not in whole:
                ours += theirs
    return loss, grads


def user_cuts(u: Ints, threads: int) -> list[int]:
    """Bounds of the parts: one part if the rows do not come user by user."""
    parts = min(threads, len(u) // LEAST)
    if parts < 2 or bool((np.diff(u) < 0).any()):
        return [0, len(u)]
    middles = (len(u) * np.arange(1, parts)) // parts
    return [0, *np.searchsorted(u, u[middles]).tolist(), len(u)]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def cascade_rows(
    low: int, high: int, u: Ints, i: Ints, target: Floats, weight: Floats, lambdas: Floats,
    widths: Ints, kind: int, share: np.float32,
    p: Floats, q: Floats, bias: Floats, h: Floats, first_p: Floats, first_q: Floats, upper: Floats,
    gp: Floats, gq: Floats, gb: Floats, gh: Floats, g_first_p: Floats, g_first_q: Floats,
    g_upper: Floats,
) -> float:  # fmt: skip
    """The loss of rows low..high-1; adds to the gradients."""
    R = weight.shape[1]
    E = h.shape[1]
    hidden = np.empty(R * CHUNK * widths.sum(), np.float32)
    widest = widths.max() if len(widths) else 1
    slope = np.empty(2 * CHUNK * widest, np.float32)
    pq = np.empty((CHUNK, E), np.float32)
    z = np.empty((R, CHUNK), np.float32)
    y = np.empty((R, CHUNK), np.float32)
    g = np.empty((R, CHUNK), np.float32)
    softplus, bits = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.int32)
    order = np.empty(CHUNK, np.int64)
    reach = np.empty(R, np.int64)
    loss = 0.0
    for start in range(low, high, CHUNK):
        n = min(CHUNK, high - start)
        by_depth(weight[start : start + n], order, reach)
        users, items = u[start : start + n][order[:n]], i[start : start + n][order[:n]]
        for r in range(R):
            for c in range(reach[r]):
                z[r, c] = bias[items[c], r]
        if E:
            gmf_up(p, q, h, users, items, reach, pq, z)
        if len(widths):
            mlp_up(first_p, first_q, upper, widths, users, items, reach, hidden, z)
        for r in range(R):
            m = reach[r]
            if r and kind == 1:
                z[r, :m] += y[r - 1, :m]
            elif r and kind == 2:
                z[r, :m] = np.float32(0.5) * (z[r, :m] + z[r - 1, :m])
            logistic(z[r, :m], y[r], softplus, bits)
            for c in range(m):
                row = start + order[c]
                scale = weight[row, r] * lambdas[r] * share
                loss += float(scale * (softplus[c] - target[row, r] * z[r, c]))
                g[r, c] = scale * (y[r, c] - target[row, r])
        for r in range(R - 1, 0, -1):  # back down the cascade
            for c in range(reach[r]):
                if kind == 1:
                    g[r - 1, c] += g[r, c] * y[r - 1, c] * (np.float32(1) - y[r - 1, c])
                elif kind == 2:
                    g[r, c] *= np.float32(0.5)
                    g[r - 1, c] += g[r, c]
        for r in range(R):
            for c in range(reach[r]):
                gb[items[c], r] += g[r, c]
        if len(widths):
            into = (g_first_p, g_first_q, g_upper)
            mlp_down(upper, widths, users, items, reach, hidden, slope, g, *into)
        if E:
            gmf_down(p, q, h, users, items, reach, pq, g, gp, gq, gh)
    return loss


@numba.njit(cache=True, nogil=True)
def by_depth(weight: Floats, order: Ints, reach: Ints) -> None:
    """Rows by the highest behaviour that weighs, highest first; how many reach each behaviour."""
    n, R = weight.shape
    reach[:] = 0
    depth = np.zeros(n, np.int64)
    for c in range(n):
        for r in range(R):
            if weight[c, r] != 0:
                depth[c] = r + 1
        for r in range(depth[c]):
            reach[r] += 1
    place = np.zeros(R + 1, np.int64)  # where the rows of this depth begin
    for d in range(R):
        place[d] = reach[d]
    for c in range(n):
        order[place[depth[c]]] = c
        place[depth[c]] += 1


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
