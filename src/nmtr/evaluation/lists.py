"""What lists of recommendations are like, whoever is right: coverage, popularity, diversity.

A list is a row of a CSR: the items recommended to a user, in no order. Letters: U users, N items,
K the length of a list.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from nmtr.data.records import CSR
from nmtr.evaluation.report import FloatArray

TENTHS = 10
STEP = 256  # lists whose users are added up at once


def coverage(lists: CSR) -> float:
    """Share of the N items that stand in some list."""
    return float((lists.column_counts() > 0).mean())


def gini(lists: CSR) -> float:
    """Gini coefficient of how often items are recommended: 0 all alike, near 1 a few items only."""
    counts = np.sort(lists.column_counts()).astype(np.float64)
    n, total = len(counts), counts.sum()
    if not total:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) @ counts) / (n * total))


def personalization(lists: CSR) -> float:
    """1 - the share of a list that also stands in another user's, mean over pairs of users.

    NaN for one user.
    """
    counts = lists.column_counts().astype(np.float64)
    users = (lists.lengths() > 0).sum()
    if users < 2:
        return float("nan")
    common = counts @ (counts - 1)  # ordered pairs of users, and an item that both are shown
    return float(1 - common / (lists.nnz * (users - 1)))


def popularity(lists: CSR, counts: npt.NDArray[np.integer], n_users: int) -> FloatArray:
    """(U,) mean over a list of the share of users who did it, counts (N,) of n_users."""
    return _mean(lists, counts[lists.indices] / n_users)


def novelty(lists: CSR, counts: npt.NDArray[np.integer], n_users: int) -> FloatArray:
    """(U,) mean over a list of -log2 of that share, in bits; an item nobody did counts as half one.

    Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems, 2010.
    """
    share = np.maximum(counts, 0.5) / n_users
    return _mean(lists, -np.log2(share[lists.indices]))


def head_share(lists: CSR, counts: npt.NDArray[np.integer]) -> FloatArray:
    """(U,) share of a list that is of the most popular tenth of the items."""
    return _mean(lists, (tenths(counts) == 0)[lists.indices].astype(np.float64))


def diversity(lists: CSR, seen: CSR) -> FloatArray:
    """(U,) 1 - the mean cosine of two items of a list, items being the sets of users of `seen`.

    NaN where a list has fewer than two items. Items that nobody has seen are like no other.
    """
    users = sp.csr_array(
        (np.ones(seen.nnz), seen.indices, seen.indptr), shape=(seen.n_rows, seen.n_columns)
    ).T.tocsr()
    length = np.sqrt(np.maximum(np.diff(users.indptr), 1))
    unit = sp.diags_array(1 / length) @ users  # (N, users), rows of length 1
    met = np.diff(users.indptr) > 0
    found = np.full(lists.n_rows, np.nan)
    for start in range(0, lists.n_rows, STEP):
        part = lists.take(np.arange(start, min(start + STEP, lists.n_rows)))
        chosen = sp.csr_array((np.ones(part.nnz), part.indices, part.indptr), shape=(
            part.n_rows, part.n_columns))  # fmt: skip
        total = chosen @ unit  # its squared length is the sum of all cosines, own ones too
        own = chosen @ met.astype(np.float64)
        k = part.lengths()
        cosines = total.multiply(total).sum(axis=1) - own
        several = k > 1
        pairs = k[several] * (k[several] - 1)
        found[start : start + part.n_rows][several] = 1 - cosines[several] / pairs
    return found


def tenths(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """(N,) which tenth of the items each is in by its count, 0 the most popular; ties by index."""
    order = np.argsort(-counts, kind="stable")
    found = np.empty(len(counts), np.int64)
    found[order] = np.arange(len(counts)) * TENTHS // len(counts)
    return found


def exposure(lists: CSR, counts: npt.NDArray[np.integer]) -> FloatArray:
    """(10,) share of all recommendations that go to each tenth of the items."""
    found = np.bincount(tenths(counts)[lists.indices], minlength=TENTHS)
    return found / max(lists.nnz, 1)


def _mean(lists: CSR, values: FloatArray) -> FloatArray:
    """(U,) mean of values (pairs,) over each list; NaN for an empty one."""
    total = np.bincount(lists.row_of_each(), values, minlength=lists.n_rows)
    with np.errstate(invalid="ignore"):
        found: FloatArray = total / lists.lengths()
    return found
