"""What a task's contestants stand on, made before anything is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness import data
from harness.contest import Contestant, run
from harness.measurements import FAILED
from harness.tasks import Task


def prepare(task: Task) -> None:
    """Make the logs and the weights that are not there yet; raises RuntimeError where it cannot."""
    for each in task.contestants:
        if each.spec and each.spec.data:
            data.ensure(Path(each.spec.data))
        if each.spec and each.spec.weights and not Path(each.spec.weights).exists():
            _fit(each)


def _fit(contestant: Contestant) -> None:
    """Train a contestant's model as its spec says and keep the weights where it will look."""
    assert contestant.spec is not None
    path = Path(contestant.spec.weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"fitting {path.stem}", flush=True)
    spec = replace(contestant.spec, steps=("fit",), precision="float32")
    found = run(replace(contestant, worker="nmtr_worker", spec=spec), box=spec.fitting + 600)
    if FAILED in found:
        raise RuntimeError(f"{path.stem} cannot be fitted: {found[FAILED]}")
