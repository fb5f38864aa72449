"""MLP units over a chunk of rows: up to the logits, and down to the gradients."""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import FAST, Floats, Ints


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def mlp_up(
    first_p: Floats, first_q: Floats, upper: Floats, widths: Ints, at_p: Ints, at_q: Ints,
    reach: Ints, hidden: Floats, z: Floats,
) -> None:  # fmt: skip
    """z[r] += each MLP's output, its layers after activation kept in hidden.

    first_p (., H), first_q (., H): the first layers before activation; at_p, at_q (R, n): which of
    their rows each unit takes for each pair.
    """
    H, at = widths[0], 0
    for r in range(len(upper)):
        n, flat = reach[r], upper[r]
        below = hidden[at : at + n * H].reshape(n, H)
        at += n * H
        for c in range(n):
            row = below[c]
            ours, theirs = first_p[at_p[r, c]], first_q[at_q[r, c]]
            for e in range(H):
                both = ours[e] + theirs[e]
                row[e] = both if both > 0 else np.float32(0)
        place = 0
        for k in range(1, len(widths)):
            a, b = widths[k - 1], widths[k]
            above = hidden[at : at + n * b].reshape(n, b)
            at += n * b
            np.dot(below, flat[place : place + a * b].reshape(a, b), above)
            place += a * b
            shift = flat[place : place + b]
            for c in range(n):
                row = above[c]
                for e in range(b):
                    both = row[e] + shift[e]
                    row[e] = both if both > 0 else np.float32(0)
            place += b
            below = above
        last = flat[place:]
        for c in range(n):
            row, total = below[c], np.float32(0)
            for e in range(len(last)):
                total += row[e] * last[e]
            z[r, c] += total


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def mlp_down(
    upper: Floats, widths: Ints, at_p: Ints, at_q: Ints, reach: Ints, hidden: Floats,
    slope: Floats, g: Floats, g_first_p: Floats, g_first_q: Floats, g_upper: Floats,
) -> None:  # fmt: skip
    """From the slopes g of the logits to those of the MLPs' first layers and of what is above."""
    H, L, half = widths[0], len(widths), len(slope) // 2
    start = 0
    for r in range(len(upper)):
        n, flat, g_flat = reach[r], upper[r], g_upper[r]
        at = start + n * widths.sum()  # the end of this unit's hidden layers
        start = at
        place = len(flat) - widths[-1]
        last, g_last = flat[place:], g_flat[place:]
        b = widths[-1]
        at -= n * b
        above = hidden[at : at + n * b].reshape(n, b)
        d = slope[: n * b].reshape(n, b)
        for c in range(n):
            each, row, down = g[r, c], above[c], d[c]
            for e in range(b):
                g_last[e] += each * row[e]
                down[e] = each * last[e] if row[e] > 0 else np.float32(0)
        for k in range(L - 1, 0, -1):
            a, b = widths[k - 1], widths[k]
            place -= b
            g_shift = g_flat[place : place + b]
            for c in range(n):
                row = d[c]
                for e in range(b):
                    g_shift[e] += row[e]
            place -= a * b
            at -= n * a
            below = hidden[at : at + n * a].reshape(n, a)
            g_weight = np.dot(below.T, d).ravel()
            whole = g_flat[place : place + a * b]
            for e in range(a * b):
                whole[e] += g_weight[e]
            side = half if (L - k) % 2 else 0
            line, gate = slope[side : side + n * a], hidden[at : at + n * a]
            d = np.dot(d, flat[place : place + a * b].reshape(a, b).T, line.reshape(n, a))
            for e in range(n * a):
                line[e] = line[e] if gate[e] > 0 else np.float32(0)
        for c in range(n):
            ours, theirs, row = g_first_p[at_p[r, c]], g_first_q[at_q[r, c]], d[c]
            for e in range(H):
                ours[e] += row[e]
                theirs[e] += row[e]
