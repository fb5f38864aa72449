"""Paired tests beside hand computation, SciPy, and what they must do when nothing differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nmtr.evaluation.significance import difference, holm, permutation, seed_mean

RNG = np.random.default_rng(5)


def test_a_difference_by_hand() -> None:
    a, b = np.array([1.0, 0.5, 0.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.0])
    found = difference(a, b)
    assert found.users == 4
    assert found.mean == pytest.approx(0.25)
    assert found.relative == pytest.approx(0.25 / 0.375)
    assert found.effect == pytest.approx(0.25 / np.std([0.5, 0, -0.5, 1], ddof=1))
    assert (found.better, found.worse) == (0.5, 0.25)
    assert found.low < 0.25 < found.high
    # Signs of .5, -.5 and 1: sums of +-.5 +-.5 +-1; |sum| >= 1 in 6 of 8.
    assert found.permutation == pytest.approx(6 / 8)


def test_t_and_wilcoxon_are_scipy_s() -> None:
    a, b = RNG.normal(0.1, 1, 200), RNG.normal(0, 1, 200)
    found = difference(a, b)
    assert found.t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.wilcoxon == pytest.approx(
        stats.wilcoxon(a, b, zero_method="pratt").pvalue, abs=1e-3
    )


def test_the_permutation_test_is_exact_for_few_users_and_near_it_for_many_draws() -> None:
    gaps = RNG.normal(0.4, 1, 13)  # 8,192 signs
    signs = 1 - 2 * (np.arange(2**13)[:, None] >> np.arange(13) & 1)
    exact = (np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9).mean()
    assert permutation(gaps) == pytest.approx(exact)
    drawn = permutation(gaps, resamples=8000)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 8000))


def test_it_agrees_with_t_where_t_holds() -> None:
    gaps = RNG.normal(0.06, 1, 3000)
    assert permutation(gaps) == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, abs=0.01)


def test_under_no_difference_p_is_uniform() -> None:
    p = [
        permutation(RNG.exponential(1, 40) * RNG.choice([-1, 1], 40), resamples=400)
        for _ in range(400)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_strong_difference_is_never_certain() -> None:
    p = permutation(np.ones(500), resamples=999)
    assert p == 1 / 1000


def test_models_that_are_equal_cannot_be_told_apart() -> None:
    a = RNG.random(50)
    found = difference(a, a)
    assert (found.mean, found.effect, found.better, found.worse) == (0, 0, 0, 0)
    assert (found.t, found.wilcoxon, found.permutation) == (1, 1, 1)
    assert (found.low, found.high) == (0, 0)


def test_one_user_proves_nothing() -> None:
    found = difference(np.array([1.0]), np.array([0.0]))
    assert (found.t, found.wilcoxon, found.permutation) == (1, 1, 1)
    assert np.isnan(found.relative)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        b = (rng.random(300) < 0.3).astype(float)
        a = np.where(rng.random(300) < 0.2, (rng.random(300) < 0.5), b)  # true gap .2 (.5 - .3)
        found = difference(a.astype(float), b, seed=seed)
        held += found.low <= 0.04 <= found.high
    assert 0.9 <= held / 200 <= 0.99


def test_holm_by_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_no_less_than_p_keeps_the_order_and_is_no_more_than_bonferroni(
    p: list[float],
) -> None:
    found = holm(p)
    for own, corrected in zip(p, found, strict=True):
        assert own <= corrected <= min(1.0, own * len(p)) or corrected == max(found)
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_seeds_are_averaged_for_each_user() -> None:
    assert seed_mean([np.array([0.0, 1.0]), np.array([1.0, 1.0])]).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="the same users"):
        seed_mean([np.zeros(2), np.zeros(3)])


def test_vectors_that_do_not_pair_are_refused() -> None:
    for a, b in ((np.zeros(2), np.zeros(3)), (np.zeros(0), np.zeros(0))):
        with pytest.raises(ValueError, match="two vectors of the same users"):
            difference(a, b)
