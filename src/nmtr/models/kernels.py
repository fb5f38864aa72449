"""The loss of a cascade of GMF units and its gradient in one pass over a batch, on a CPU.

Plain torch moves every pair's 64 products through memory a dozen times; here a pair's vectors are
read once and its gradient added once. `NMTR.loss` without this kernel is the reference it is
tested against.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.models.embeddings import sparse_rows

# Sums may be reordered, but a NaN stays one: that is how divergence is noticed.
FAST = {"reassoc", "contract", "arcp", "nsz"}
KINDS = {"none": 0, "probability": 1, "logit": 2}
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class GMFCascadeLoss(torch.autograd.Function):
    """Same value and gradients as cascade_loss over GMF units, plus L2 on the batch's rows.

    Inputs: user table (M, E), item table (N, E), item bias (N, R), h (R, E); then the batch's user,
    item (B,), target, weight (B, R), lambdas (R,), the cascade's kind and l2. The tables' gradients
    are sparse: the rows that the batch met.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        user, item, bias, h, users, items, target, weight, lambdas, kind, l2 = inputs
        tensors = (user, item, bias, h, users, items, target, weight, lambdas)
        arrays: list[Any] = [each.detach().numpy() for each in tensors]
        loss, user_rows, user_grad, item_rows, item_grad, bias_grad, h_grad = gmf_cascade(  # type: ignore[call-arg]
            *arrays, KINDS[kind], np.float32(l2)
        )
        ctx.shapes = (user.shape, item.shape, bias.shape)
        ctx.rows = (torch.from_numpy(user_rows), torch.from_numpy(item_rows))
        ctx.grads = tuple(
            torch.from_numpy(each) for each in (user_grad, item_grad, bias_grad, h_grad)
        )
        return torch.tensor(loss, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (outer,) = outputs
        users, items = ctx.rows
        user_grad, item_grad, bias_grad, h_grad = (outer * each for each in ctx.grads)
        tables = zip(
            (users, items, items), (user_grad, item_grad, bias_grad), ctx.shapes, strict=True
        )
        sparse = [sparse_rows(rows, values, shape) for rows, values, shape in tables]
        return (*sparse, h_grad, *[None] * 7)


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def gmf_cascade(
    user_table: Floats, item_table: Floats, bias: Floats, h: Floats, users: Ints, items: Ints,
    target: Floats, weight: Floats, lambdas: Floats, kind: int, l2: np.float32,
) -> tuple[float, Ints, Floats, Ints, Floats, Floats, Floats]:  # fmt: skip
    """The loss, and gradients of the rows met: (rows, values) of users and items, then bias, h."""
    B, (R, E) = len(users), h.shape
    user_slot, user_rows = _slots(users, len(user_table))
    item_slot, item_rows = _slots(items, len(item_table))
    user_grad = np.zeros((len(user_rows), E), np.float32)
    item_grad = np.zeros((len(item_rows), E), np.float32)
    bias_grad = np.zeros((len(item_rows), R), np.float32)
    h_grad = np.zeros((R, E), np.float32)
    z, y, g = np.empty(R, np.float32), np.empty(R, np.float32), np.empty(R, np.float32)
    pq, c = np.empty(E, np.float32), np.empty(E, np.float32)  # the pair's products and their slope
    share = np.float32(1.0 / max(B, 1))
    loss = 0.0
    for b in range(B):
        p, q = user_table[users[b]], item_table[items[b]]
        for e in range(E):
            pq[e] = p[e] * q[e]
        top = -1
        for r in range(R):
            if weight[b, r] != 0:
                top = r
        for r in range(top + 1):
            own = np.float32(0)
            for e in range(E):
                own += pq[e] * h[r, e]
            own += bias[items[b], r]
            if r and kind == 1:
                own += y[r - 1]
            elif r and kind == 2:
                own = np.float32(0.5) * (own + z[r - 1])
            z[r] = own
            y[r] = np.float32(1) / (np.float32(1) + np.exp(-own))
            softplus = max(own, np.float32(0)) + np.log1p(np.exp(-abs(own)))
            scale = weight[b, r] * lambdas[r] * share
            loss += float(scale * (softplus - target[b, r] * own))
            g[r] = scale * (y[r] - target[b, r])
        for r in range(top, -1, -1):  # back down the cascade
            if r and kind == 1:
                g[r - 1] += g[r] * y[r - 1] * (np.float32(1) - y[r - 1])
            elif r and kind == 2:
                g[r] *= np.float32(0.5)
                g[r - 1] += g[r]
        gp, gq, gb = (
            user_grad[user_slot[users[b]]],
            item_grad[item_slot[items[b]]],
            bias_grad[item_slot[items[b]]],
        )
        decay = l2 * share
        for r in range(top + 1):
            gb[r] += g[r]
            for e in range(E):
                h_grad[r, e] += g[r] * pq[e]
        c[:] = 0
        for r in range(top + 1):
            for e in range(E):
                c[e] += g[r] * h[r, e]
        for e in range(E):
            gp[e] += c[e] * q[e] + decay * p[e]
            gq[e] += c[e] * p[e] + decay * q[e]
        if l2:
            norm = np.float32(0)
            for e in range(E):
                norm += p[e] * p[e] + q[e] * q[e]
            for r in range(R):
                gb[r] += decay * bias[items[b], r]
                norm += bias[items[b], r] ** 2
            loss += float(np.float32(0.5) * decay * norm)
    return loss, user_rows, user_grad, item_rows, item_grad, bias_grad, h_grad


@numba.njit(cache=True)
def _slots(indices: Ints, size: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """A place for each distinct index: (size,) its place, and the indices, ascending.

    Ascending, because torch adds sparse gradients by merging them and takes the order for granted.
    """
    slot = np.full(size, -1, np.int32)
    rows = np.empty(len(indices), np.int64)
    n = 0
    for index in indices:
        if slot[index] < 0:
            slot[index] = 0
            rows[n] = index
            n += 1
    found = np.sort(rows[:n])
    for place in range(n):
        slot[found[place]] = place
    return slot, found
