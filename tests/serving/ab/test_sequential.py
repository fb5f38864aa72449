"""The tests that may be looked at every day keep their promise; the usual one does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nmtr.serving.ab.sequential import Estimate, mismatch, proportion, ratio

positive = st.floats(1e-8, 1.0)


def test_interval_and_p_by_hand() -> None:
    """V = τ² = 1e-4, α = 0.05: the radius is sqrt(2e-4 (2 ln 20 + ln 2))."""
    found = Estimate(0.05, 1e-4)
    radius = math.sqrt(2e-4 * (2 * math.log(20) + math.log(2)))
    assert found.interval(0.05, tau=0.01) == pytest.approx((0.05 - radius, 0.05 + radius))
    assert found.p_value(tau=0.01) == pytest.approx(math.sqrt(2) * math.exp(-(0.05**2) / 4e-4))
    assert Estimate(0.0, 1e-4).p_value() == 1
    assert Estimate(0.1, math.inf).interval(0.05) is None


@given(value=st.floats(-0.3, 0.3), variance=positive, tau=st.floats(1e-3, 0.5), alpha=positive)
def test_the_interval_leaves_out_0_exactly_where_p_is_below_alpha(
    value: float, variance: float, tau: float, alpha: float
) -> None:
    alpha = min(alpha, 0.9)
    found = Estimate(value, variance)
    interval, p = found.interval(alpha, tau), found.p_value(tau)
    assert interval is not None
    assert p is not None
    if abs(p - alpha) > 1e-9 * alpha:
        assert (p < alpha) == (not interval[0] <= 0 <= interval[1])


def peeks(rates: tuple[float, float], alpha: float, trials: int = 600) -> tuple[float, float]:
    """How often 60 looks at up to 12,000 persons an arm find a difference: ours, the usual test."""
    random = np.random.default_rng(11)
    looks = np.arange(200, 12_001, 200)
    ours = usual = 0
    for _ in range(trials):
        sums = [np.cumsum(random.binomial(200, rate, len(looks))) for rate in rates]
        found = seen = False
        for n, a, b in zip(looks, *sums, strict=True):
            difference = proportion(int(b), int(n)).minus(proportion(int(a), int(n)))
            p = difference.p_value()
            assert p is not None
            found |= p < alpha
            seen |= abs(difference.value) > 1.96 * math.sqrt(difference.variance)
        ours += found
        usual += seen
    return ours / trials, usual / trials


def test_looking_sixty_times_finds_nothing_where_nothing_is() -> None:
    """The usual test, looked at as often, errs in more than one experiment of five."""
    ours, usual = peeks((0.05, 0.05), alpha=0.05)
    assert ours <= 0.05
    assert usual > 0.2


def test_a_difference_is_found() -> None:
    ours, _ = peeks((0.05, 0.066), alpha=0.05, trials=200)
    assert ours > 0.9


def test_too_few_persons_say_nothing_and_none_is_no_certainty() -> None:
    assert proportion(3, 99).interval(0.05) is None
    low, high = proportion(0, 1000).interval(0.05) or (0, 0)
    assert low < 0 < high


def test_a_ratio_s_variance_takes_the_person_as_the_cluster() -> None:
    """A hundred persons of ten lists each know no more than their persons."""
    random = np.random.default_rng(5)
    rate = random.beta(0.3, 3, 4000)  # persons differ
    lists = random.integers(1, 20, 4000).astype(np.float64)
    bought = random.binomial(lists.astype(int), rate).astype(np.float64)
    found = ratio(bought, lists)
    draws = random.integers(0, 4000, (2000, 4000))
    resampled = bought[draws].sum(1) / lists[draws].sum(1)
    assert math.sqrt(found.variance) == pytest.approx(resampled.std(), rel=0.1)
    naive = found.value * (1 - found.value) / lists.sum()
    assert found.variance > 3 * naive
    assert ratio(bought[:50], lists[:50]).interval(0.05) is None


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=5))
def test_the_dealing_s_p_is_scipy_s(counts: list[int]) -> None:
    shares = [1.0 + n for n in range(len(counts))]
    expected = np.array(shares) / sum(shares) * sum(counts)
    assert mismatch(counts, shares) == pytest.approx(stats.chisquare(counts, expected).pvalue)
    assert mismatch([0, 0], [0.5, 0.5]) == 1
