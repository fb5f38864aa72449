"""The options that say where a command does its work."""

from __future__ import annotations

from typing import Literal

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
