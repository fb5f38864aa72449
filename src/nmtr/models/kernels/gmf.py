"""GMF units over a chunk of rows: up to the logits, and down to the gradients."""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Ints


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def gmf_up(
    p: Floats, q: Floats, h: Floats, users: Ints, items: Ints, reach: Ints, pq: Floats, z: Floats
) -> None:
    """z[r] += h[r] . (p * q), the products kept in pq."""
    R, E = h.shape
    for c in range(len(users)):
        ours, theirs, both = p[users[c]], q[items[c]], pq[c]
        for e in range(E):
            both[e] = ours[e] * theirs[e]
        for r in range(R):
            if c < reach[r]:
                total = np.float32(0)
                for e in range(E):
                    total += both[e] * h[r, e]
                z[r, c] += total


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def gmf_down(
    p: Floats, q: Floats, h: Floats, users: Ints, items: Ints, reach: Ints, pq: Floats, g: Floats,
    gp: Floats, gq: Floats, gh: Floats,
) -> None:  # fmt: skip
    """From the slopes g of the logits to those of p, q and h."""
    R, E = h.shape
    slope = np.empty(E, np.float32)
    for c in range(len(users)):
        both = pq[c]
        slope[:] = 0
        for r in range(R):
            if c < reach[r]:
                each = g[r, c]
                for e in range(E):
                    gh[r, e] += each * both[e]
                    slope[e] += each * h[r, e]
        ours, theirs, g_ours, g_theirs = p[users[c]], q[items[c]], gp[users[c]], gq[items[c]]
        for e in range(E):
            g_ours[e] += slope[e] * theirs[e]
            g_theirs[e] += slope[e] * ours[e]
