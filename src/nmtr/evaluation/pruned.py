"""Exact ranking by a cascade of which most levels need not be computed for most items.

Under eq. 4 a level adds the probability of the level below, between 0 and 1, to its own part. So
with floors g = f^R + b^R known for all items, an item whose floor is more than 1 below the k-th
best score cannot be among the k best, and of a held-out item's rank most is settled by floors. The
levels below are computed for the rest: some 4 % of the items for the top 200 of Beibei. What comes
out is what ranking all scores gives (ranking.py), to the last place.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import torch

from nmtr.data.records import CSR
from nmtr.models.kernels import Floats, Ints
from nmtr.models.kernels.pairs import Cascade, floors, levels
from nmtr.models.kernels.threads import blas_in_one_thread, even_cuts, in_threads

USERS = 32  # whose floors a thread holds at once
BINS = 512


def top_of(cascade: Cascade, mask: CSR, order: Ints, k: int) -> tuple[Ints, Floats]:
    """The best k unmasked items (B, k), -1 where there are fewer, and their logits (B, R, k).

    order (N,): which of equal items comes first.
    """
    n, R = len(cascade.p), cascade.bias.shape[1]
    items = np.full((n, k), -1, np.int64)
    logits = np.full((n, R, k), -np.inf, np.float32)

    def part(low: int, high: int) -> None:
        top_rows(cascade, low, high, mask.indptr, mask.indices, order, items, logits)

    with blas_in_one_thread():
        in_threads(part, _cuts(n))
    return items, logits


def standing_before(cascade: Cascade, mask: CSR, truth: CSR) -> tuple[Ints, Floats]:
    """For each held-out item, how many unmasked items score no less, itself one; and its score."""
    above, own = np.empty(truth.nnz, np.int64), np.empty(truth.nnz, np.float32)

    def part(low: int, high: int) -> None:
        count_rows(
            cascade, low, high, mask.indptr, mask.indices, truth.indptr, truth.indices, above, own
        )

    with blas_in_one_thread():
        in_threads(part, _cuts(len(cascade.p)))
    return above, own


def _cuts(users: int) -> list[int]:
    return even_cuts(users, max(1, min(torch.get_num_threads(), users // USERS)))


@numba.njit(cache=True, nogil=True)
def top_rows(
    c: Cascade, low: int, high: int, mask_start: Ints, masked: npt.NDArray[np.int32],
    order: Ints, items: Ints, logits: Floats,
) -> None:  # fmt: skip
    """Fill the rows low..high-1 of items (B, k) and logits (B, R, k)."""
    k, R, N = items.shape[1], logits.shape[1], len(c.q)
    found, z = np.empty(N, np.int64), np.empty((R, N), np.float32)
    for start in range(low, high, USERS):
        stop = min(start + USERS, high)
        block = floors(c, start, stop)
        for user in range(start, stop):
            floor = block[user - start]
            floor[masked[mask_start[user] : mask_start[user + 1]]] = -np.inf
            edge = least_of_top(floor, k)
            n = take(floor, edge, np.float32(np.nan), found, 0)
            score(c, user, floor, found, 0, n, z)
            best = np.sort(z[R - 1, :n])
            bar = floor_needed(best[n - k]) if n >= k else np.float32(-np.inf)
            m = take(floor, bar, edge, found, n)
            score(c, user, floor, found, n, m, z)
            chosen = best_first(z[R - 1, :m], found[:m], order)[:k]
            for place in range(len(chosen)):
                if z[R - 1, chosen[place]] == -np.inf:
                    break
                items[user, place] = found[chosen[place]]
                for r in range(R):
                    logits[user, r, place] = z[r, chosen[place]]


@numba.njit(cache=True, nogil=True)
def count_rows(
    c: Cascade, low: int, high: int, mask_start: Ints, masked: npt.NDArray[np.int32],
    truth_start: Ints, truth: npt.NDArray[np.int32], above: Ints, own: Floats,
) -> None:  # fmt: skip
    """Fill above and own (truths,) for the held-out items of users low..high-1."""
    R, N = c.bias.shape[1], len(c.q)
    found, z = np.empty(N, np.int64), np.empty((R, N), np.float32)
    for start in range(low, high, USERS):
        stop = min(start + USERS, high)
        block = floors(c, start, stop)
        for user in range(start, stop):
            floor = block[user - start]
            floor[masked[mask_start[user] : mask_start[user + 1]]] = -np.inf
            for t in range(truth_start[user], truth_start[user + 1]):
                found[0] = truth[t]
                score(c, user, floor, found, 0, 1, z)
                if not z[R - 1, 0] > -np.inf:  # no number, or masked: it ranks last
                    above[t], own[t] = N, -np.inf
                    continue
                own[t] = z[R - 1, 0]
                bar = own[t] + np.float32(1e-5) * (1 + abs(own[t]))  # equals are compared as scores
                settled = 0
                for j in range(N):
                    settled += floor[j] >= bar
                n = take(floor, floor_needed(own[t]), bar, found, 0)
                score(c, user, floor, found, 0, n, z)
                for x in range(n):
                    settled += found[x] == truth[t] or z[R - 1, x] >= own[t]
                above[t] = settled


@numba.njit(cache=True, nogil=True, inline="always")
def floor_needed(score: np.float32) -> np.float32:
    """The floor below which no score reaches this one, rounding included."""
    return score - np.float32(1) - np.float32(1e-5) * (np.float32(1) + abs(score))


@numba.njit(cache=True, nogil=True)
def score(
    c: Cascade, user: int, floor: Floats, found: Ints, low: int, high: int, z: Floats
) -> None:
    """z[:, low:high] the logits of items found[low:high]; a score that is no number is least."""
    if high > low:
        items = found[low:high]
        into = np.empty((z.shape[0], high - low), np.float32)
        levels(c, user, items, floor[items], into)
        z[:, low:high] = into
        for x in range(low, high):
            if np.isnan(z[-1, x]):
                z[-1, x] = -np.inf


@numba.njit(cache=True, nogil=True)
def take(floor: Floats, low: np.float32, high: np.float32, found: Ints, n: int) -> int:
    """Put the items with low <= floor < high behind the first n of found; the new length.

    A high of NaN bounds nothing.
    """
    for j in range(len(floor)):
        if floor[j] >= low and not floor[j] >= high and floor[j] > -np.inf:
            found[n] = j
            n += 1
    return n


@numba.njit(cache=True, nogil=True)
def least_of_top(values: Floats, k: int) -> np.float32:
    """A value that at least k of these reach, few more than k if they spread; else the least."""
    low, high, there = np.float32(np.inf), np.float32(-np.inf), 0
    for value in values:
        if value > -np.inf:  # neither masked nor NaN
            low, high, there = min(low, value), max(high, value), there + 1
    if there <= k or not high - low < np.inf or high == low:
        return low
    counts = np.zeros(BINS, np.int64)
    scale = np.float32(BINS - 1) / (high - low)
    for value in values:
        if value > -np.inf:
            counts[int((value - low) * scale)] += 1
    reached, place = 0, BINS
    while reached < k:
        place -= 1
        reached += counts[place]
    edge = low + np.float32(place) / scale
    return edge - abs(edge) * np.float32(1e-6) - np.float32(1e-6) / scale


@numba.njit(cache=True, nogil=True)
def best_first(scores: Floats, items: Ints, order: Ints) -> Ints:
    """The places of scores from the highest down, equal ones by the order of their items."""
    places = np.argsort(-scores)
    start = 0
    while start < len(places):
        stop = start + 1
        while stop < len(places) and scores[places[stop]] == scores[places[start]]:
            stop += 1
        if stop - start > 1:
            equal = places[start:stop]
            places[start:stop] = equal[np.argsort(order[items[equal]])]
        start = stop
    return places
