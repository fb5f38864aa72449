"""Chance in compiled code: SplitMix64 (Steele et al. 2014), a counter whose values are scrambled.

A caller adds STEP to its state for each number that it takes, and scrambles the sum.
"""

from __future__ import annotations

import numba
import numpy as np

from nmtr.models.kernels import Int

STEP = np.uint64(0x9E3779B97F4A7C15)
TRIES = 200  # draws for one negative before a user who has nearly everything goes without it


@numba.njit(cache=True, inline="always")
def scramble(state: np.uint64) -> np.uint64:
    """64 random bits of a state."""
    x = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=True, inline="always")
def below(bits: np.uint64, n: Int) -> np.int64:
    """0..n-1 from random bits, by their upper half: uniform to n parts in 2^32."""
    return np.int64((bits >> np.uint64(32)) * np.uint64(n) >> np.uint64(32))


@numba.njit(cache=True, inline="always")
def share(bits: np.uint64) -> float:
    """A number from 0 to below 1 from random bits."""
    return np.float64(bits >> np.uint64(11)) * 2.0**-53
