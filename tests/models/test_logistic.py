"""The compiled sigmoid and softplus beside those of float64."""

from __future__ import annotations

import numpy as np
import pytest

from nmtr.models.kernels.logistic import logistic


def test_they_are_what_float64_says() -> None:
    z = np.linspace(-79, 79, 5001).astype(np.float32)
    y, softplus = np.empty_like(z), np.empty_like(z)
    logistic(z, y, softplus, np.empty(len(z), np.int32))
    exact = z.astype(np.float64)
    assert np.allclose(y, 1 / (1 + np.exp(-exact)), rtol=1e-5)
    assert np.allclose(softplus, np.logaddexp(0, exact), rtol=3e-6, atol=2e-7)


def test_past_what_a_float32_can_tell_they_do_not_overflow_and_a_nan_stays_one() -> None:
    z = np.array([0, 1e9, -1e9, np.nan], np.float32)
    y, softplus = np.empty_like(z), np.empty_like(z)
    logistic(z, y, softplus, np.empty(4, np.int32))
    assert y[:2].tolist() == [0.5, 1]
    assert softplus[:2] == pytest.approx([np.log(2), 1e9])
    assert 0 <= y[2] < 1e-30
    assert softplus[2] == 0
    assert np.isnan(y[3])
    assert np.isnan(softplus[3])
