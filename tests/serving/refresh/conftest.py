"""A shop's log by nights, and homes that are refreshed with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.refresh import Outcome, Wish, refresh

DAY = 86_400_000
Frames = Callable[[int, int], pl.DataFrame]
Nightly = Callable[..., Outcome]


@pytest.fixture(scope="session")
def log(shop: Path) -> pl.DataFrame:
    """The shop's 60 days, in order of time."""
    return pl.read_parquet(shop / "events-*.parquet").sort("timestamp")


@pytest.fixture(scope="session")
def midnight(log: pl.DataFrame) -> int:
    """The midnight before the first event."""
    return int(log["timestamp"][0]) // DAY * DAY


@pytest.fixture(scope="session")
def days(log: pl.DataFrame, midnight: int) -> Frames:
    """Events from a day of the shop up to another."""

    def between(low: int, high: int) -> pl.DataFrame:
        time = pl.col("timestamp") - midnight
        return log.filter((time >= low * DAY) & (time < high * DAY))

    return between


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def nightly(home: Home, tmp_path: Path, midnight: int) -> Nightly:
    """Refreshes the home with a frame of events, at the end of a day; options by keyword.

    Any loss is allowed and few users judge, unless something else is said.
    """

    def once(events: pl.DataFrame | None, day: int, wish: Any = None, **given: Any) -> Outcome:
        files: tuple[str, ...] = ()
        if events is not None:
            events.write_parquet(tmp_path / "new.parquet")
            files = (str(tmp_path / "new.parquet"),)
        easy = {"window": 5.0, "margin": 1.0, "least_users": 5, "model": "popularity"}
        options = Options(behaviors=("view", "cart", "buy"), **{**easy, **given})
        asked = {"files": files, "now": midnight + day * DAY, **(wish or {})}
        store = asked.pop("store", None)
        return refresh(home, options, Wish(**asked), store=store)

    return once
