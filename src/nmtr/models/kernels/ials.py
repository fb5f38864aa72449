"""One side of iALS by conjugate gradients, row by row, without a matrix of a row's own.

`IALS.solve_exactly` is the reference that this is tested against.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from nmtr.models.kernels import FAST, Floats
from nmtr.models.kernels.threads import even_cuts, in_threads

STEPS = 64  # a row that takes more is left for another way; on real logs most take 4 to 7
TOLERANCE = 1e-12  # of the squared residual, as a share of the first
LEAST = 50_000  # records a thread is worth
Index = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]


def conjugate_gradients(
    x: csr_array, other: Floats, spread: Floats, shrink: Floats
) -> tuple[Floats, Bools]:
    """Solve (sum_i x_i h_i h_i' + diag(spread + shrink_row)) w = sum_i x_i h_i for rows of x.

    x: (rows, n); other: (n, E), the h; spread: (E,); shrink: (rows,). Returns w (rows, E), 0 for a
    row of nothing, and which are solved to single precision (rows,).
    """
    found = np.zeros((x.shape[0], other.shape[1]), np.float32)
    solved = np.zeros(x.shape[0], np.bool_)
    given = (x.indptr, x.indices, x.data, other, spread, shrink, STEPS, TOLERANCE)
    threads = max(1, min(torch.get_num_threads(), x.nnz // LEAST))
    middles = np.searchsorted(x.indptr, even_cuts(x.nnz, threads)[1:-1])

    def part(low: int, high: int) -> None:
        cg_rows(low, high, *given, found, solved)

    in_threads(part, [0, *middles.tolist(), x.shape[0]])
    return found, solved


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def cg_rows(
    low: int, high: int, indptr: Index, indices: Index, values: Floats, other: Floats,
    spread: Floats, shrink: Floats, steps: int, tolerance: float, found: Floats, solved: Bools,
) -> None:  # fmt: skip
    """Rows low..high-1, each from zero, preconditioned by the diagonal that all records share."""
    E = other.shape[1]
    d, rest = np.empty(E, np.float32), np.empty(E, np.float32)
    move, image = np.empty(E, np.float32), np.empty(E, np.float32)
    for row in range(low, high):
        start, stop, w = indptr[row], indptr[row + 1], found[row]
        for e in range(E):
            d[e], rest[e] = spread[e] + shrink[row], 0
        for at in range(start, stop):
            h, value = other[indices[at]], values[at]
            for e in range(E):
                rest[e] += value * h[e]
        size = np.float32(0)
        for e in range(E):
            move[e] = rest[e] / d[e]
            size += rest[e] * move[e]
        first = size
        solved[row] = size == 0
        for _ in range(steps):
            if solved[row]:
                break
            for e in range(E):
                image[e] = d[e] * move[e]
            add_products(start, stop, indices, values, other, move, image)
            curve = np.float32(0)
            for e in range(E):
                curve += move[e] * image[e]
            length, before = size / curve, size
            size = np.float32(0)
            for e in range(E):
                w[e] += length * move[e]
                rest[e] -= length * image[e]
                size += rest[e] * rest[e] / d[e]
            solved[row] = size <= tolerance * first  # a NaN is not
            for e in range(E):
                move[e] = rest[e] / d[e] + size / before * move[e]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def add_products(
    at: int, stop: int, indices: Index, values: Floats, other: Floats, p: Floats, q: Floats
) -> None:
    """q += sum_i x_i (h_i . p) h_i over records at..stop-1, by fours: a quarter of the stores."""
    E, nothing = len(p), np.float32(0)
    while at + 4 <= stop:
        a, b = other[indices[at]], other[indices[at + 1]]
        c, d = other[indices[at + 2]], other[indices[at + 3]]
        ta, tb, tc, td = nothing, nothing, nothing, nothing
        for e in range(E):
            ta += a[e] * p[e]
            tb += b[e] * p[e]
            tc += c[e] * p[e]
            td += d[e] * p[e]
        ta *= values[at]
        tb *= values[at + 1]
        tc *= values[at + 2]
        td *= values[at + 3]
        for e in range(E):
            q[e] += ta * a[e] + tb * b[e] + tc * c[e] + td * d[e]
        at += 4
    while at < stop:
        a, ta = other[indices[at]], nothing
        for e in range(E):
            ta += a[e] * p[e]
        ta *= values[at]
        for e in range(E):
            q[e] += ta * a[e]
        at += 1
