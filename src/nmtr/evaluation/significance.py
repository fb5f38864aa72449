"""Whether two models differ: paired tests over the same users, and how large the difference is.

Users are what varies by chance, so every test pairs the two models' values of each user. Seeds are
averaged before that (`seed_mean`): a model is what it is on average over its own chance.

- paired t (the paper's), Wilcoxon's signed ranks (Pratt's way with ties at zero), and a
  permutation test that flips the sign of each user's difference: the last decides here, as it
  supposes nothing of the values' distribution, and tests the mean that is reported.
- Holm's step-down correction over all pairs compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES = 10_000
CELLS = 4_000_000  # random signs held at once
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """a - b over the same users.

    mean, low, high: the mean difference and its 95 % bootstrap interval; relative, relative_low,
    relative_high: the same over b's mean (NaN where that is 0); effect: Cohen's d_z, the mean over
    the standard deviation of the differences; better, worse: shares of users; t, wilcoxon,
    permutation: two-sided p-values.
    """

    users: int
    mean: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float
    effect: float
    better: float
    worse: float
    t: float
    wilcoxon: float
    permutation: float


def difference(a: Vector, b: Vector, *, seed: int = 0) -> Difference:
    """Compare two models' values of the same users, (U,) each.

    Raises ValueError where the vectors do not pair, or are empty.
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"expected two vectors of the same users, got {a.shape} and {b.shape}")
    gaps = (a - b).astype(np.float64)
    low, high, relative_low, relative_high = _bootstrap(a, b, seed)
    base = float(b.mean())
    spread = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    mean = float(gaps.mean())
    return Difference(
        users=len(gaps),
        mean=mean,
        low=low,
        high=high,
        relative=mean / base if base else float("nan"),
        relative_low=relative_low,
        relative_high=relative_high,
        effect=mean / spread if spread else 0.0,
        better=float((gaps > 0).mean()),
        worse=float((gaps < 0).mean()),
        t=paired_t(gaps),
        wilcoxon=wilcoxon(gaps),
        permutation=permutation(gaps, seed=seed),
    )


def paired_t(gaps: Vector) -> float:
    """Two-sided p of Student's paired t; 1 where no difference varies."""
    if len(gaps) < 2 or not np.ptp(gaps):
        return 1.0
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)


def wilcoxon(gaps: Vector) -> float:
    """Two-sided p of Wilcoxon's signed ranks, zeros ranked and then left out (Pratt 1959)."""
    if len(gaps) < 2 or not gaps.any():
        return 1.0
    return float(stats.wilcoxon(gaps, zero_method="pratt", method="approx").pvalue)


def permutation(gaps: Vector, *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the mean under random signs of the differences.

    Exact where all signs are no more than `resamples`; else (1 + b) / (1 + resamples) with b random
    signs whose mean is at least as far from 0 (Phipson and Smyth 2010), never 0.
    """
    gaps = gaps[gaps != 0]  # a sign changes nothing there
    if not len(gaps):
        return 1.0
    observed = abs(gaps.sum()) * (1 - 1e-12)  # sums in another order differ by rounding
    if 2 ** min(len(gaps), 62) <= resamples:
        bits = np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps)) & 1
        return float((np.abs((1 - 2 * bits) @ gaps) >= observed).mean())
    rng = np.random.default_rng(seed)
    far, done, step = 0, 0, max(1, CELLS // len(gaps))
    while done < resamples:
        n = min(step, resamples - done)
        signs = rng.integers(0, 2, (n, len(gaps)), np.int8).astype(np.float32)
        sums = 2 * (signs @ gaps.astype(np.float32)).astype(np.float64) - gaps.sum()
        far += int((np.abs(sums) >= observed).sum())
        done += n
    return (1 + far) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): they reject what rejects family-wise."""
    order = sorted(range(len(p_values)), key=lambda each: p_values[each])
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = worst
    return corrected


def seed_mean(runs: Sequence[Vector]) -> Vector:
    """(U,) each user's mean over runs that differ in their seed alone."""
    if len({each.shape for each in runs}) != 1:
        raise ValueError(f"expected runs of the same users, got {[each.shape for each in runs]}")
    mean: Vector = np.mean(np.stack(runs), 0)
    return mean


def _bootstrap(a: Vector, b: Vector, seed: int) -> tuple[float, float, float, float]:
    """95 % intervals of the mean difference, absolute and relative to b's mean.

    Users that share both values are resampled together: Poisson weights, as in the reports.
    """
    pairs, counts = np.unique(np.stack([a, b], 1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    weights = rng.poisson(counts, (1000, len(pairs))).astype(np.float64)
    weights = weights[weights.sum(1) > 0]
    means = weights @ pairs / weights.sum(1, keepdims=True)
    gaps = means[:, 0] - means[:, 1]
    low, high = np.percentile(gaps, [2.5, 97.5])
    if not (means[:, 1] > 0).all():
        return float(low), float(high), float("nan"), float("nan")
    relative = np.percentile(gaps / means[:, 1], [2.5, 97.5])
    return float(low), float(high), float(relative[0]), float(relative[1])
