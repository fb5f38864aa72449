"""A bundle of the finished run with a catalogue, and a service of it; made once."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nmtr.serving.bundle import open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.service import Service
from nmtr.training.run import Run


@pytest.fixture(scope="session")
def catalogue(finished: Run) -> pl.DataFrame:
    """Categories by turns, a price that rises with the index, a brand that one in three lacks."""
    n = finished.data.n_items
    return pl.DataFrame(
        {
            "category": [f"c{at % 4}" for at in range(n)],
            "price": [float(at) for at in range(n)],
            "brand": [None if at % 3 == 0 else at % 3 for at in range(n)],
            "new": [at % 2 == 0 for at in range(n)],
        }
    )


@pytest.fixture(scope="session")
def bundled(
    finished: Run, catalogue: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("bundled") / "model.nmtr"
    write_bundle(finished, path, catalogue=catalogue)
    return path


@pytest.fixture
def service(bundled: Path) -> Service:
    """A service of the bundle, of its own stock."""
    return Service.of(open_bundle(bundled))
