"""nmtr: recommendations that learn from everything users do.

    from nmtr import NMTR, interactions

The names below are imported when they are first asked for, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from nmtr import cache

if TYPE_CHECKING:
    from nmtr.data.events import ReadOptions, read_events
    from nmtr.data.interactions import Interactions, load
    from nmtr.data.prepare import prepare
    from nmtr.data.split import split
    from nmtr.errors import DamagedError, DataError, NmtrError, UsageError
    from nmtr.estimator import NMTR, interactions

__version__ = "1.0.0"

# Torch's threads wait for each other by spinning, which starves ours, and stops them all where
# another process holds a core. It reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
cache.provide()

__all__ = [
    "NMTR",
    "DamagedError",
    "DataError",
    "Interactions",
    "NmtrError",
    "ReadOptions",
    "UsageError",
    "interactions",
    "load",
    "prepare",
    "read_events",
    "split",
]

_HOMES = {
    "nmtr.estimator": ("NMTR", "interactions"),
    "nmtr.errors": ("DamagedError", "DataError", "NmtrError", "UsageError"),
    "nmtr.data.interactions": ("Interactions", "load"),
    "nmtr.data.events": ("ReadOptions", "read_events"),
    "nmtr.data.prepare": ("prepare",),
    "nmtr.data.split": ("split",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'nmtr' has no attribute '{name}'")
