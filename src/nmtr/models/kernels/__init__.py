"""Compiled passes over the rows of a batch, on a CPU; each has a plain-torch reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Sums may be reordered, but a NaN stays one: that is how divergence is noticed.
FAST = {"reassoc", "contract", "arcp", "nsz"}
CHUNK = 128  # rows: their hidden layers stay in cache, and a layer's product in one thread
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Int = int | np.signedinteger[Any]
