"""The log loss of one user under a cascade of GMF units, and its slope, in one pass over items."""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Ints
from nmtr.models.kernels.pairs import sigmoid


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def gmf_user(
    p: Floats, items: Ints, q: Floats, bias: Floats, h: Floats, kind: int, target: Floats,
    weight: Floats, slope: Floats,
) -> float:  # fmt: skip
    """The weighted log loss of a user p (E,) on items (S,); adds its slope to slope (E,).

    q (N, E), bias (N, R) of all items; h (R, E); kind of cascade as kernels.cascade has it; target,
    weight (R, S).
    """
    R, E = h.shape
    ours = h * p
    z, y, g = np.empty(R, np.float32), np.empty(R, np.float32), np.empty(R, np.float32)
    by_level = np.zeros((R, E), np.float32)
    loss = 0.0
    for x in range(len(items)):
        theirs = q[items[x]]
        for r in range(R):
            line, total = ours[r], np.float32(0)
            for e in range(E):
                total += line[e] * theirs[e]
            own = total + bias[items[x], r]
            if r and kind == 1:
                own += y[r - 1]
            elif r and kind == 2:
                own = np.float32(0.5) * (own + z[r - 1])
            z[r], y[r] = own, sigmoid(own)
            softplus = max(own, np.float32(0)) + np.log1p(np.exp(-abs(own)))
            loss += float(weight[r, x] * (softplus - target[r, x] * own))
            g[r] = weight[r, x] * (y[r] - target[r, x])
        for r in range(R - 1, 0, -1):  # back down the cascade
            if kind == 1:
                g[r - 1] += g[r] * y[r - 1] * (np.float32(1) - y[r - 1])
            elif kind == 2:
                g[r] *= np.float32(0.5)
                g[r - 1] += g[r]
        for r in range(R):
            line, each = by_level[r], g[r]
            for e in range(E):
                line[e] += each * theirs[e]
    for r in range(R):
        for e in range(E):
            slope[e] += by_level[r, e] * h[r, e]
    return loss
