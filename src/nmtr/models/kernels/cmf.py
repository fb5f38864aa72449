"""The loss of a collective matrix factorisation and its gradient in one pass over a batch's rows.

`CMF.plain_loss` is the reference that this is tested against.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from nmtr.models.kernels import FAST, Floats, Ints
from nmtr.models.kernels.cascade import user_cuts
from nmtr.models.kernels.threads import in_threads


class FactorLoss(torch.autograd.Function):
    """The weighted log loss of a batch, a user vector for each behaviour, plus L2.

    Inputs: p (U, R * E), q (N, E) and bias (N, R), the rows that the batch meets; u, i (B,), which
    of them each row is of; target, weight (B, R); lambdas (R,); l2.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        p, q, bias, u, i, target, weight, lambdas = (each.detach().numpy() for each in inputs[:-1])
        share = np.float32(1 / max(len(u), 1))
        decay = np.float32(inputs[-1]) * share
        gp = np.zeros_like(p)  # parts have users of their own, and add to one array

        def part(low: int, high: int) -> tuple[float, Floats, Floats]:
            gq, gb = np.zeros_like(q), np.zeros_like(bias)
            rows = (u, i, target, weight, lambdas * share, decay)
            return cmf_rows(low, high, *rows, p, q, bias, gp, gq, gb), gq, gb

        parts = in_threads(part, user_cuts(u, torch.get_num_threads()))
        ctx.grads = (gp, sum(each[1] for each in parts), sum(each[2] for each in parts))
        return torch.tensor(sum(each[0] for each in parts), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        outer = float(outputs[0])
        return (*(outer * torch.from_numpy(each) for each in ctx.grads), *[None] * 6)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def cmf_rows(
    low: int, high: int, u: Ints, i: Ints, target: Floats, weight: Floats, lambdas: Floats,
    decay: np.float32, p: Floats, q: Floats, bias: Floats, gp: Floats, gq: Floats, gb: Floats,
) -> float:  # fmt: skip
    """The loss of rows low..high-1; adds to the gradients."""
    R, E = weight.shape[1], q.shape[1]
    loss = 0.0
    for row in range(low, high):
        item = i[row]
        theirs, g_theirs = q[item], gq[item]
        for r in range(R):
            if weight[row, r] == 0:
                continue
            ours, g_ours = p[u[row], r * E : (r + 1) * E], gp[u[row], r * E : (r + 1) * E]
            z, norm = np.float32(0), bias[item, r] * bias[item, r]
            for e in range(E):
                z += ours[e] * theirs[e]
                norm += ours[e] * ours[e] + theirs[e] * theirs[e]
            z += bias[item, r]
            small = np.exp(-abs(z))
            scale = weight[row, r] * lambdas[r]
            softplus = max(z, np.float32(0)) + np.log1p(small)
            loss += float(scale * (softplus - target[row, r] * z) + np.float32(0.5) * decay * norm)
            y = (np.float32(1) if z >= 0 else small) / (np.float32(1) + small)
            slope = scale * (y - target[row, r])
            gb[item, r] += slope + decay * bias[item, r]
            for e in range(E):
                a, b = ours[e], theirs[e]
                g_ours[e] += slope * b + decay * a
                g_theirs[e] += slope * a + decay * b
    return loss
