"""Whether two models differ: paired tests over the same users, and how large the difference is.

Users are what varies by chance, so every test pairs the two models' values of each user. Seeds are
averaged before that (`seed_mean`): a model is what it is on average over its own chance.

- paired t (the paper's), Wilcoxon's signed ranks (Pratt's way with ties at zero), and a
  permutation test that flips the sign of each user's difference: the last decides here, as it
  supposes nothing of the values' distribution, and tests the mean that is reported.
- Holm's step-down correction over all pairs compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES = 10_000
FEW = 13  # users whose 2 ** 13 signs are counted
CELLS = 4_000_000  # random signs held at once
DIGITS = 9  # means over seeds differ in their last bits where they are equal
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """a - b over the same users.

    mean, low, high: the mean difference and its 95 % bootstrap interval; relative, relative_low,
    relative_high: the same over b's mean (NaN where that is 0); effect: Cohen's d_z, the mean over
    the standard deviation of the differences (infinite where none varies, NaN for one user);
    better, worse: shares of users; t, wilcoxon, permutation: two-sided p-values.
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
    gaps = np.round(a.astype(np.float64) - b, DIGITS)
    low, high, relative_low, relative_high = _bootstrap(a, b, seed)
    base = float(b.mean())
    mean = float(gaps.mean())
    return Difference(
        users=len(gaps),
        mean=mean,
        low=low,
        high=high,
        relative=mean / base if base else float("nan"),
        relative_low=relative_low,
        relative_high=relative_high,
        effect=_effect(gaps),
        better=float((gaps > 0).mean()),
        worse=float((gaps < 0).mean()),
        t=paired_t(gaps),
        wilcoxon=wilcoxon(gaps),
        permutation=permutation(gaps, seed=seed),
    )


def paired_t(gaps: Vector) -> float:
    """Two-sided p of Student's paired t; 1 for one user, who shows no variation."""
    if len(gaps) < 2 or not gaps.any():
        return 1.0
    if not np.ptp(gaps):
        return 0.0  # the limit, t being infinite
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)


def wilcoxon(gaps: Vector) -> float:
    """Two-sided p of Wilcoxon's signed ranks, zeros ranked and then left out (Pratt 1959).

    Exact for up to FEW users, by every sign of the ranks; else by the normal distribution.
    """
    if len(gaps) < 2 or not gaps.any():
        return 1.0
    if len(gaps) <= FEW:
        return permutation(np.sign(gaps) * stats.rankdata(np.abs(gaps)))
    return float(stats.wilcoxon(gaps, zero_method="pratt", method="approx").pvalue)


def permutation(gaps: Vector, *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the mean under random signs of the differences.

    Exact where the sums to be had are no more than `resamples`, as for hit ratios, whose
    differences are of one size; else (1 + b) / (1 + resamples) with b random signs whose mean is at
    least as far from 0 (Phipson and Smyth 2010), never 0.
    """
    sizes, counts = np.unique(np.abs(gaps[gaps != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    # Sums in another order differ by rounding, and an equal one must count as no nearer to 0.
    observed = abs(gaps.sum()) - 1e-9 * (sizes @ counts)
    if np.log(counts + 1.0).sum() <= np.log(resamples):
        sums, weights = _every_sum(sizes, counts)
        return min(1.0, float(weights[np.abs(sums) >= observed].sum()))
    rng = np.random.default_rng(seed)
    far, done, step = 0, 0, max(1, CELLS // len(sizes))
    while done < resamples:
        n = min(step, resamples - done)
        far += int((np.abs(_random_sums(sizes, counts, n, rng)) >= observed).sum())
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


def _effect(gaps: Vector) -> float:
    if len(gaps) < 2:
        return math.nan
    mean = float(gaps.mean())
    if not np.ptp(gaps):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / float(gaps.std(ddof=1))


def _every_sum(sizes: Vector, counts: npt.NDArray[np.int64]) -> tuple[Vector, Vector]:
    """Every sum of signed differences, and its probability; counts: how many are of each size."""
    sums, weights = np.zeros(1), np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        ups = np.arange(count + 1)
        sums = (sums[:, None] + size * (2 * ups - count)).ravel()
        weights = (weights[:, None] * stats.binom.pmf(ups, count, 0.5)).ravel()
    return sums, weights


def _random_sums(
    sizes: Vector, counts: npt.NDArray[np.int64], n: int, rng: np.random.Generator
) -> Vector:
    """(n,) sums under random signs; differences of one size are drawn together."""
    alone = counts == 1
    ups = rng.binomial(counts[~alone], 0.5, (n, int((~alone).sum())))
    signs = 2.0 * rng.integers(0, 2, (n, int(alone.sum())), np.int8) - 1
    found: Vector = (2 * ups - counts[~alone]) @ sizes[~alone] + signs @ sizes[alone]
    return found


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
