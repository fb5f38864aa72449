"""The pairwise loss of a batch's triples and its gradient in one pass.

`losses.pairwise_loss` is the reference that this is tested against.
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


class TripleLoss(torch.autograd.Function):
    """The mean over triples (u, i, j) of log(1 + exp(p_u . q_j - p_u . q_i)).

    Inputs: p (M, E), q (N, E); u, i, j (T,).
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        p, q, u, i, j = (each.detach().numpy() for each in inputs)
        share = np.float32(1 / max(len(u), 1))
        gp = np.zeros_like(p)  # parts have users of their own, and add to one array

        def part(low: int, high: int) -> tuple[float, Floats]:
            gq = np.zeros_like(q)
            return triple_rows(low, high, u, i, j, share, p, q, gp, gq), gq

        parts = in_threads(part, user_cuts(u, torch.get_num_threads()))
        ctx.grads = gp, sum(each[1] for each in parts)
        return torch.tensor(sum(each[0] for each in parts), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        outer = float(outputs[0])
        grads = (torch.from_numpy(each) for each in ctx.grads)
        return (*(each if outer == 1 else outer * each for each in grads), None, None, None)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def triple_rows(
    low: int, high: int, u: Ints, i: Ints, j: Ints, share: np.float32, p: Floats, q: Floats,
    gp: Floats, gq: Floats,
) -> float:  # fmt: skip
    """The loss of triples low..high-1, each worth `share`; adds to the gradients."""
    E, one, loss = p.shape[1], np.float32(1), 0.0
    for t in range(low, high):
        user, ours, theirs = p[u[t]], q[i[t]], q[j[t]]
        g_user, g_ours, g_theirs = gp[u[t]], gq[i[t]], gq[j[t]]
        x = np.float32(0)
        for e in range(E):
            x += user[e] * (ours[e] - theirs[e])
        small = np.exp(-abs(x))
        loss += float(share * (max(-x, np.float32(0)) + np.log1p(small)))
        slope = share * (small if x >= 0 else one) / (one + small)
        for e in range(E):
            a, b, c = user[e], ours[e], theirs[e]
            g_user[e] -= slope * (b - c)
            g_ours[e] -= slope * a
            g_theirs[e] += slope * a
    return loss
