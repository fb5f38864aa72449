"""A small simulated shop, prepared for each kind of hold-out, and a run on it; made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.training.run import Run, Settings, execute, open_run
from nmtr.training.trainer import Training

BEHAVIORS = ("view", "cart", "buy")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log of about 15,000 events of 300 users on 150 items."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    return simulate(SimulatorConfig(users=300, items=150, events=15_000), folder)


@pytest.fixture(scope="session")
def prepared(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Interactions]:
    """The shop's log with a hold-out such as `random`, opened from its folder."""
    folder = tmp_path_factory.mktemp("prepared")

    def make(holdout: str, behaviors: tuple[str, ...] = BEHAVIORS) -> Interactions:
        path = folder / f"{'-'.join(behaviors)}-{holdout}"
        if not path.exists():
            options = ReadOptions(behaviors=behaviors, unknown="drop")
            log = read_events([shop / "events-*.parquet"], options)
            prepare(log, behaviors=behaviors, holdout=holdout).save(path)
        return load(path)

    return make


@pytest.fixture(scope="session")
def timed(prepared: Callable[..., Interactions]) -> Interactions:
    """The shop's log with the last tenth of the buys held out by time."""
    return prepared("time:0.9")


@pytest.fixture(scope="session")
def small() -> Callable[..., Settings]:
    """Settings of a model that trains in a moment; training options by keyword."""

    def make(model: str = "nmtr-gmf", protocol: str = "", **training: Any) -> Settings:
        options = {"embedding": 8} if model.startswith("nmtr") else {}
        return Settings(model, protocol, options, Training(**{"epochs": 3, **training}))

    return make


@pytest.fixture(scope="session")
def finished(
    timed: Interactions, small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A finished run of nmtr-gmf on the timed data, opened from its folder; not to be altered."""
    path = tmp_path_factory.mktemp("runs") / "run"
    execute(timed, small(), path)
    return open_run(path)
