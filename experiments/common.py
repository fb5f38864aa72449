"""What the experiments share: their TOML files, the prepared Beibei, the machine they ran on."""

from __future__ import annotations

import os
import platform
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.options import build
from nmtr.training.run import Settings
from nmtr.training.trainer import Training

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WORK = HERE.parent / "runs" / "beibei"  # git ignores it
BEHAVIORS = ("view", "cart", "buy")


def names() -> list[str]:
    """Experiments, by the names of their TOML files."""
    return sorted(each.stem for each in (HERE / "beibei").glob("*.toml"))


def read(name: str) -> tuple[Settings, dict[str, list[Any]]]:
    """An experiment's settings, and the space that its search walks."""
    found = tomllib.loads((HERE / "beibei" / f"{name}.toml").read_text())
    space = found.pop("search", {})
    training = build(Training, found.pop("training"), where=name)
    return build(Settings, found | {"training": training}, where=name), space


def source(name: str) -> Path:
    """The folder of a real log, in NMTR_DATA."""
    return Path(os.environ.get("NMTR_DATA", HERE.parent.parent / "shared" / "data")) / name


def prepared(name: str) -> Interactions:
    """A real log from NMTR_DATA, by the name of its folder, prepared once."""
    out = WORK.parent / name / "data"
    if not out.exists():
        options = ReadOptions(behaviors=BEHAVIORS)
        log = read_events([source(name) / "events.parquet"], options)
        held = source(name) / "test.parquet"
        prepare(log, behaviors=BEHAVIORS, holdout=held, options=options).save(out)
    return load(out)


def beibei() -> Interactions:
    return prepared("beibei")


def log_read(command: str, why: str) -> None:
    """One line for each read of the test."""
    with (HERE / "TEST_READS.md").open("a") as stream:
        stream.write(f"| {datetime.now(UTC):%Y-%m-%d %H:%M} | `{command}` | {why} |\n")


def machine() -> dict[str, str]:
    """What a measured number depends on."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [each.split(":")[1].strip() for each in lines if each.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.processor()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("nmtr", "torch", "numpy", "numba", "polars")},
    }
