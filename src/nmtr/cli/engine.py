"""The options that say where a command does its work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nmtr.cli.show import remark

if TYPE_CHECKING:
    from nmtr.training.run import Settings

Engine = Literal["here", "ray"]


def ray_workers(engine: Engine, workers: int | None) -> int:
    """How many workers of Ray; 0 for the work to be done here. Raises UsageError without Ray."""
    from importlib.util import find_spec

    from nmtr.errors import UsageError

    if engine == "here":
        if workers is not None:
            raise UsageError("--workers is for --engine ray")
        return 0
    if find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray: pip install 'nmtr[ray]'")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers: expected 1 or more, got {workers}")
    return workers or 1


def check_named(named: bool) -> None:
    """Raise UsageError where processes would each choose a model."""
    from nmtr.errors import UsageError

    if not named:
        raise UsageError("several processes train a model that is named: --model nmtr-gmf")


def train_on_ray(data: Path, settings: Settings, out: Path, workers: int) -> None:
    """Train by workers of Ray, and say so."""
    from nmtr.training import ray_engine

    epochs = ray_engine.train(data, settings, out, workers=workers)
    long, many = "s" * (epochs != 1), "s" * (workers != 1)
    remark(f"{settings.model}: fitted for {epochs} epoch{long} by {workers} worker{many} of Ray")


def say_next(out: Path) -> None:
    """What may follow a training."""
    remark(f"Run in {out}. Next: nmtr evaluate {out}   and   nmtr recommend {out} --users ID")
