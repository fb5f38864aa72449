"""The harness under benchmarks/, which is no part of the package, imported by its path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark_module() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the harness, such as harness.tables or workers.worker."""
    if not BENCHMARKS.is_dir():
        pytest.skip("a source distribution has no benchmarks")
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))
