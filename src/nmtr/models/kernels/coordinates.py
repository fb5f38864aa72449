"""One side of eALS, or of its view-enhanced kin, coordinate by coordinate, in compiled code.

Both minimise, over all pairs, what `vals` writes down; eALS is the case without middle items. A
matrix X holds a pair's weight, or 0 for a middle item: one between the positives and the rest.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nmtr.models.kernels import FAST, Floats, Int

Index = npt.NDArray[np.integer[Any]]
Doubles = npt.NDArray[np.float64]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def user_rows(
    low: int, high: int, indptr: Index, indices: Index, weight: Floats, missing: Floats,
    middle: np.float32, margins: Floats, ridge: np.float32, gram: Floats, squares: Floats,
    total: Floats, q: Floats, p: Floats, most: int, tolerance: np.float32,
) -> None:  # fmt: skip
    """Users low..high-1 of X (M, N): each coordinate of p to its best, others held, in turn.

    missing (N,): the weight of each item where a user has no record; middle: that of a middle item
    against each other one; gram, squares (E, E): of q (N, E), weighted by `missing` and not; total
    (E,): the sum of q. Goes over a user's coordinates `most` times, or until none moves by more
    than `tolerance` of the largest.
    """
    N, E = q.shape
    longest = 1
    for user in range(low, high):
        longest = max(longest, indptr[user + 1] - indptr[user])
    taken = np.empty(E * longest, np.float32)
    square, fitted = np.empty(longest, np.float32), np.empty(longest, np.float32)
    linear, mean, rest = np.empty(E, np.float32), np.empty(E, np.float32), np.empty(E, np.float32)
    nothing = np.float32(0)
    for user in range(low, high):
        start, stop = indptr[user], indptr[user + 1]
        n = stop - start
        positives = 0
        for at in range(start, stop):
            positives += weight[at] > 0
        middles = n - positives
        held = middle * np.float32(middles)  # the weight of each item against the middle ones
        between = margins[1] * np.float32(N - n) - margins[0] * np.float32(positives)
        for e in range(E):
            mean[e], rest[e], linear[e] = nothing, total[e], -held * margins[1] * total[e]
        columns = taken[: E * n].reshape(E, n)
        for c in range(n):
            i = indices[start + c]
            x, row = weight[start + c], q[i]
            if x > 0:
                square[c] = x - missing[i]
                pull = x + held * (margins[0] + margins[1])
            else:
                square[c] = middle * np.float32(N - middles) - missing[i] - held
                pull = held * margins[1] + middle * between
                for e in range(E):
                    mean[e] += middle * row[e]
                    rest[e] -= row[e]
            for e in range(E):
                linear[e] += pull * row[e]
                columns[e, c] = row[e]
        descend(
            p[user], columns, square[:n], fitted[:n], linear, gram, np.float32(1), squares, held,
            ridge, mean, rest, most, tolerance,
        )  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def item_rows(
    indptr: Index, indices: Index, weight: Floats, missing: Floats, middle: np.float32,
    margins: Floats, ridge: np.float32, p: Floats, q: Floats, positives: Index, middles: Index,
    of_middles: Doubles, sum_of_middles: Doubles,
) -> None:  # fmt: skip
    """The same for all items, the rows of X' (N, M), in turn.

    positives, middles (M,): how many of each a user has; of_middles, sum_of_middles (M,): the sum
    of a user's scores of middle items, times `middle` and not. Both follow the items that move.
    """
    N, E = q.shape
    longest = 1
    for item in range(N):
        longest = max(longest, indptr[item + 1] - indptr[item])
    taken = np.empty(E * longest, np.float32)
    square, fitted = np.empty(longest, np.float32), np.empty(longest, np.float32)
    nowhere, old = np.zeros(E, np.float32), np.empty(E, np.float32)
    linear = np.empty(E, np.float32)
    squares = np.dot(p.T, p)
    held = (middle * middles).astype(np.float32)
    shared = np.dot((p * held.reshape(-1, 1)).T, p)
    against, total = np.zeros(E, np.float64), np.zeros(E, np.float64)
    for user in range(len(p)):
        for e in range(E):
            against[e] += (of_middles[user] - margins[1] * held[user]) * p[user, e]
    for item in range(N):
        for e in range(E):
            total[e] += q[item, e]
    for item in range(N):
        start, stop = indptr[item], indptr[item + 1]
        n = stop - start
        columns = taken[: E * n].reshape(E, n)
        for e in range(E):
            linear[e], old[e] = np.float32(against[e]), q[item, e]
        for c in range(n):
            user = indices[start + c]
            x, row = weight[start + c], p[user]
            if x > 0:
                square[c] = x - missing[item]
                pull = x + held[user] * (margins[0] + margins[1])
            else:
                others = -sum_of_middles[user]
                for e in range(E):
                    others += row[e] * total[e]
                apart = N - positives[user] - middles[user]
                between = margins[1] * apart - margins[0] * positives[user] + others
                square[c] = middle * (N - middles[user]) - missing[item] - held[user]
                pull = np.float32(middle * between - of_middles[user] + margins[1] * held[user])
            for e in range(E):
                linear[e] += pull * row[e]
                columns[e, c] = row[e]
        descend(
            q[item], columns, square[:n], fitted[:n], linear, squares, missing[item], shared,
            np.float32(1), ridge, nowhere, nowhere, 1, np.float32(0),
        )  # fmt: skip
        for e in range(E):
            total[e] += q[item, e] - old[e]
        if middle > 0:
            moved(
                start, stop, indices, weight, middle, p, q[item], old, of_middles, sum_of_middles,
                against,
            )  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def moved(
    start: Int, stop: Int, indices: Index, weight: Floats, middle: np.float32, p: Floats,
    now: Floats, old: Floats, of_middles: Doubles, sum_of_middles: Doubles, against: Doubles,
) -> None:  # fmt: skip
    """Let the sums of users whose middle item has moved follow it."""
    for at in range(start, stop):
        if weight[at] > 0:
            continue
        user = indices[at]
        row, change = p[user], 0.0
        for e in range(len(row)):
            change += row[e] * (now[e] - old[e])
        of_middles[user] += middle * change
        sum_of_middles[user] += change
        for e in range(len(row)):
            against[e] += middle * change * row[e]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def descend(
    w: Floats, columns: Floats, square: Floats, fitted: Floats, linear: Floats, one: Floats,
    of_one: np.float32, other: Floats, of_other: np.float32, ridge: np.float32, mean: Floats,
    rest: Floats, most: int, tolerance: np.float32,
) -> None:  # fmt: skip
    """Coordinates of w (E,) to the least of w'Aw / 2 - linear'w, one after the other.

    A = of_one one + of_other other + ridge I - mean rest' - rest mean'
        + sum_c square_c h_c h_c', h the columns (E, n).
    """
    E, n = columns.shape
    by_mean, by_rest = np.float32(0), np.float32(0)
    for c in range(n):
        fitted[c] = np.float32(0)
    for e in range(E):
        by_mean += mean[e] * w[e]
        by_rest += rest[e] * w[e]
        line, each = columns[e], w[e]
        for c in range(n):
            fitted[c] += each * line[c]
    for _ in range(most):
        largest, size = np.float32(0), np.float32(0)
        for e in range(E):
            line = columns[e]
            slope, curve = np.float32(0), np.float32(0)
            for k in range(E):
                slope += (of_one * one[e, k] + of_other * other[e, k]) * w[k]
            for c in range(n):
                each = square[c] * line[c]
                slope += each * fitted[c]
                curve += each * line[c]
            slope += ridge * w[e] - mean[e] * by_rest - rest[e] * by_mean - linear[e]
            curve += of_one * one[e, e] + of_other * other[e, e] + ridge
            step = -slope / (curve - np.float32(2) * mean[e] * rest[e])
            w[e] += step
            by_mean += step * mean[e]
            by_rest += step * rest[e]
            for c in range(n):
                fitted[c] += step * line[c]
            largest, size = max(largest, abs(step)), max(size, abs(w[e]))
        if largest <= tolerance * size:
            break
