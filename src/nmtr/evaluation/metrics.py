"""Ranking metrics, each a value per user, from the ranks of what was true.

Ranks start at 1. With one true item per user: HR@K is 1 when it is in the top K, NDCG@K is
1 / log2(1 + rank) there, Recall@K equals HR@K, MRR@K is 1 / rank. With several, as in ir-measures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmtr.errors import UsageError

CUTOFFS = (10, 20, 50, 80, 100, 200)
METRICS = ("hr", "ndcg", "recall", "mrr")
FloatArray = npt.NDArray[np.float64]


def per_user(
    ranks: npt.NDArray[np.int64], indptr: npt.NDArray[np.int64], cutoffs: tuple[int, ...] = CUTOFFS
) -> dict[str, FloatArray]:
    """{"hr@10": (U,), ...}; ranks: (truths,), those of user u at indptr[u] .. indptr[u + 1].

    Every user has at least one.
    """
    functions = {"hr": hit_rate, "ndcg": ndcg, "recall": recall, "mrr": reciprocal_rank}
    return {f"{name}@{k}": functions[name](ranks, indptr, k) for k in cutoffs for name in METRICS}


def parse(name: str) -> str:
    """Check a metric's name such as `ndcg@100`; raises UsageError."""
    kind, _, k = name.lower().partition("@")
    if kind not in METRICS or k not in map(str, CUTOFFS):
        known = f"{'|'.join(METRICS)}@{'|'.join(map(str, CUTOFFS))}"
        raise UsageError(f"metric '{name}': expected {known}, as in ndcg@100")
    return name.lower()


def hit_rate(ranks: npt.NDArray[np.int64], indptr: npt.NDArray[np.int64], k: int) -> FloatArray:
    """(U,) 1 where any true item is in the top k."""
    return (_sum(ranks <= k, indptr) > 0).astype(np.float64)


def recall(ranks: npt.NDArray[np.int64], indptr: npt.NDArray[np.int64], k: int) -> FloatArray:
    """(U,) share of the true items that are in the top k."""
    share: FloatArray = _sum(ranks <= k, indptr) / np.diff(indptr)
    return share


def ndcg(ranks: npt.NDArray[np.int64], indptr: npt.NDArray[np.int64], k: int) -> FloatArray:
    """(U,) sum of 1 / log2(1 + rank) over true items in the top k, over the best such sum.

    Jarvelin and Kekalainen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    gains = np.where(ranks <= k, 1 / np.log2(1.0 + ranks), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    share: FloatArray = _sum(gains, indptr) / ideal[np.minimum(np.diff(indptr), k) - 1]
    return share


def reciprocal_rank(
    ranks: npt.NDArray[np.int64], indptr: npt.NDArray[np.int64], k: int
) -> FloatArray:
    """(U,) 1 / rank of the first true item, 0 where it is past k."""
    best = np.minimum.reduceat(ranks, indptr[:-1])
    return np.where(best <= k, 1.0 / best, 0.0)


def _sum(values: npt.NDArray[np.generic], indptr: npt.NDArray[np.int64]) -> FloatArray:
    # Not differences of one running sum: a user's value would depend, in its last bits, on others.
    total: FloatArray = np.add.reduceat(values.astype(np.float64), indptr[:-1])
    return total
