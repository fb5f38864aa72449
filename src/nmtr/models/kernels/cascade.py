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
from nmtr.models.kernels.rows import by_depth, depth_of, shrink
from nmtr.models.kernels.threads import in_threads

KINDS = {"none": 0, "probability": 1, "logit": 2}
LEAST = 512  # rows a thread is worth


class CascadeLoss(torch.autograd.Function):
    """The weighted log loss of a batch through R units of GMF, MLP or both, plus L2 on its rows.

    Inputs: p (U, E), q (N, E) and bias (N, R), the rows that the batch meets; h (R, E) of the GMF
    units or (R, 0); first_p, first_q (., H), the MLPs' first layers before activation (relu) as
    `first_layers` has them by level, or (., 0); upper (R, S), each MLP's weights above as
    `upper_weights` lays them out. Then which users and items the rows met, and the levels of both,
    or None without MLPs; target, weight (B, R); lambdas (R,); the widths of the MLP's layers, the
    cascade's kind, and l2.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *learned, users, items, levels, target, weight, lambdas, widths, kind, l2 = inputs
        values = [each.detach().numpy() for each in learned]
        rows = (users.places, items.places, target.numpy(), weight.numpy())
        share = np.float32(1 / max(len(target), 1))
        ranked: list[Ints] = [np.empty(0, np.int64)] * 4
        if levels:
            ranked = [part for side in levels for part in (side.rank, side.starts())]
        fixed = (*ranked, lambdas.numpy(), np.array(widths, np.int64), KINDS[kind], share)
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
        return (*grads, *[None] * 9)


def _in_threads(
    values: list[Any], rows: tuple[Any, ...], fixed: tuple[Any, ...]
) -> tuple[float, list[Floats]]:
    """The loss and the gradient of each of `values`, the rows cut between users into parts."""
    u = rows[0]
    cuts = user_cuts(u, torch.get_num_threads() - 1)  # one draws the next batch
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
    low: int, high: int, u: Ints, i: Ints, target: Floats, weight: Floats,
    rank_p: Ints, start_p: Ints, rank_q: Ints, start_q: Ints,
    lambdas: Floats, widths: Ints, kind: int, share: np.float32,
    p: Floats, q: Floats, bias: Floats, h: Floats, first_p: Floats, first_q: Floats, upper: Floats,
    gp: Floats, gq: Floats, gb: Floats, gh: Floats, g_first_p: Floats, g_first_q: Floats,
    g_upper: Floats,
) -> float:  # fmt: skip
    """The loss of rows low..high-1, deepest first, so that a chunk's reach the same level."""
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
    at_p, at_q = np.empty((R, CHUNK), np.int64), np.empty((R, CHUNK), np.int64)
    order, counts = by_depth(depth_of(weight[low:high]), R)
    order += low
    reach = np.empty(R, np.int64)
    loss = 0.0
    for start in range(0, high - low, CHUNK):
        chosen = order[start : start + CHUNK]
        n = len(chosen)
        users, items = u[chosen], i[chosen]
        for r in range(R):
            reach[r] = min(max(counts[r] - start, 0), n)
        for r in range(R):
            for c in range(reach[r]):
                z[r, c] = bias[items[c], r]
        if E:
            gmf_up(p, q, h, users, items, reach, pq, z)
        if len(widths):
            for r in range(R):
                for c in range(reach[r]):
                    at_p[r, c] = start_p[r] + rank_p[users[c]]
                    at_q[r, c] = start_q[r] + rank_q[items[c]]
            mlp_up(first_p, first_q, upper, widths, at_p, at_q, reach, hidden, z)
        for r in range(R):
            m = reach[r]
            if r and kind == 1:
                z[r, :m] += y[r - 1, :m]
            elif r and kind == 2:
                z[r, :m] = np.float32(0.5) * (z[r, :m] + z[r - 1, :m])
            logistic(z[r, :m], y[r], softplus, bits)
            for c in range(m):
                row = chosen[c]
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
            mlp_down(upper, widths, at_p, at_q, reach, hidden, slope, g, *into)
        if E:
            gmf_down(p, q, h, users, items, reach, pq, g, gp, gq, gh)
    return loss
