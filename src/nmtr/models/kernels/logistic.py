"""Sigmoids and softplus of many logits at once, by loops that compile to vector instructions.

The C library's exp and log1p, a call for each logit, cost more than all the rest of a GMF pair.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from nmtr.models.kernels import FAST, Floats

HIGH, LOW = np.float32(40), np.float32(-80)  # past these a float32 sigmoid is 1, or nearly 0
LOG2 = np.float32(0.6931471805599453)
ONE = np.int32(0x3F800000)  # the bits of 1.0: exponent 127, no fraction
FRACTION = np.int32(0x007FFFFF)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def logistic(z: Floats, y: Floats, softplus: Floats, bits: npt.NDArray[np.int32]) -> None:
    """y = 1 / (1 + exp(-z)) to 1e-6 of it, softplus = log(1 + exp(z)) to 2e-6; a NaN stays one.

    bits: room for len(z).
    """
    as_float, as_bits = bits.view(np.float32), softplus.view(np.int32)
    n = len(z)
    for e in range(n):  # exp(x) = 2^k exp(f) with |f| <= log(2) / 2
        x = z[e]
        x = HIGH if x > HIGH else x
        x = LOW if x < LOW else x
        k = np.floor(x / LOG2 + np.float32(0.5))
        f = x - k * LOG2
        series = f * np.float32(1 / 720) + np.float32(1 / 120)
        series = series * f + np.float32(1 / 24)
        series = series * f + np.float32(1 / 6)
        series = series * f + np.float32(1 / 2)
        series = series * f + np.float32(1)
        y[e] = series * f + np.float32(1)
        bits[e] = (np.int32(k) << np.int32(23)) + ONE
    for e in range(n):
        odds = y[e] * as_float[e]
        softplus[e] = np.float32(1) + odds
        y[e] = odds / softplus[e]
    for e in range(n):  # log(1 + odds) = k log(2) + log(m) with 1 <= m < 2
        k = (as_bits[e] >> np.int32(23)) - np.int32(127)
        bits[e] = (as_bits[e] & FRACTION) | ONE
        softplus[e] = np.float32(k) * LOG2
    for e in range(n):
        m = as_float[e]
        t = (m - np.float32(1)) / (m + np.float32(1))
        s = t * t
        series = s * np.float32(2 / 11) + np.float32(2 / 9)
        series = series * s + np.float32(2 / 7)
        series = series * s + np.float32(2 / 5)
        series = series * s + np.float32(2 / 3)
        series = series * s + np.float32(2)
        over = z[e] - HIGH
        softplus[e] += series * t + (np.float32(0) if over <= 0 else over)
