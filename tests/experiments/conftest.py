"""A small log on which the paper can be reproduced."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare

BEHAVIORS = ("view", "cart", "buy")


@pytest.fixture(scope="session")
def data(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Interactions:
    """The simulated log, a third of whose views and carts were lost: some buys have neither."""
    folder = tmp_path_factory.mktemp("reproduce")
    log = pl.read_parquet(shop / "events-*.parquet").filter(pl.col("behavior").is_in(BEHAVIORS))
    pair = pl.concat_str("user_id", pl.col("item_id").cast(pl.String), separator=" ")
    kept = log.filter((pl.col("behavior") == "buy") | (pair.hash(seed=1) % 3 > 0))
    kept.drop("timestamp").write_parquet(folder / "log.parquet")
    options = ReadOptions(behaviors=BEHAVIORS)
    events = read_events([folder / "log.parquet"], options)
    prepare(events, behaviors=BEHAVIORS, holdout="random").save(folder / "data")
    return load(folder / "data")
