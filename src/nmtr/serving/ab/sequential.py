"""Intervals and tests that stay valid however often one looks, and the check of the dealing.

A normal mixture (Robbins 1970; the mixture SPRT of Johari, Koomen, Pekelis and Walsh, Operations
Research 2022): for an estimate d with variance V, and τ the size of differences one looks for,

    p = min(1, sqrt((V + τ²) / V) · exp(-τ² d² / (2 V (V + τ²))))
    d ± sqrt(V (V + τ²) / τ² · (2 ln(1/α) + ln((V + τ²) / V)))

hold at all sample sizes at once: under no difference the chance that p ever falls below α, or that
the interval ever leaves out 0, is at most α, as far as means are normal by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc

TAU = 0.01
LEAST = 100  # persons of an arm, below which nothing is said: means are not normal by then
Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean, or a difference of two, and its variance; unknown while there are too few persons."""

    value: float
    variance: float

    def minus(self, other: Estimate) -> Estimate:
        return Estimate(self.value - other.value, self.variance + other.variance)

    def interval(self, alpha: float, tau: float = TAU) -> tuple[float, float] | None:
        """Holds at all times at once, each with the others, with probability 1 - alpha."""
        V, t = self.variance, tau**2
        if not 0 < V < math.inf:
            return None
        radius = math.sqrt(V * (V + t) / t * (2 * math.log(1 / alpha) + math.log((V + t) / V)))
        return self.value - radius, self.value + radius

    def p_value(self, tau: float = TAU) -> float | None:
        """Of no difference, whenever one looks."""
        V, t = self.variance, tau**2
        if not 0 < V < math.inf:
            return None
        weight = 0.5 * math.log((V + t) / V) - t * self.value**2 / (2 * V * (V + t))
        return min(1.0, math.exp(min(weight, 0.0)))


def proportion(successes: int, persons: int) -> Estimate:
    """The share of persons who did something.

    The variance is that of a share drawn a little towards 1/2, so that none or all is no certainty.
    """
    if persons < LEAST:
        return Estimate(successes / persons if persons else math.nan, math.inf)
    drawn = (successes + 1) / (persons + 2)
    return Estimate(successes / persons, drawn * (1 - drawn) / persons)


def ratio(numerators: Floats, denominators: Floats) -> Estimate:
    """A ratio of sums over persons, such as purchases per list; its variance by linearisation.

    A person's lists are no independent trials: the person is the cluster.
    """
    n, total = len(numerators), float(denominators.sum())
    if n < LEAST or total <= 0:
        return Estimate(float(numerators.sum()) / total if total > 0 else math.nan, math.inf)
    value = float(numerators.sum()) / total
    rest = numerators - value * denominators
    variance = float(np.var(rest, ddof=1)) * n / total**2
    return Estimate(value, max(variance, 1 / total**2))


def mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The p-value of Pearson's chi-square that persons were dealt out by these shares."""
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return 1.0
    expected = [total * share / sum(shares) for share in shares]
    distance = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))
    return float(gammaincc((len(counts) - 1) / 2, distance / 2))
