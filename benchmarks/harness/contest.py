"""Runs the contestants of a task in turn, each as a whole process, round after round."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from workers.worker import Spec

from harness.environments import OURS, build, python
from harness.measurements import FAILED, Measurement
from harness.places import ROOT, WORK, WORKERS

POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")  # each reads NAME_NUM_THREADS


@dataclass(frozen=True)
class Contestant:
    """A process to time: a worker with its spec, or a plain command.

    environ: what its own manual asks to be set. once: it is not timed against the others, one
    round is enough.
    """

    name: str
    side: str = "ours"
    environment: str = OURS
    worker: str = ""
    spec: Spec | None = None
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    once: bool = False

    @property
    def threads(self) -> int:
        """A plain command gets one."""
        return self.spec.threads if self.spec else 1


def environ_of(contestant: Contestant) -> dict[str, str]:
    """The same number of threads for everyone's thread pools, which sleep while they wait.

    nmtr asks for that by itself; a spinning pool collapses where another process holds a core.
    """
    names = [*(f"{name}_NUM_THREADS" for name in POOLS), "POLARS_MAX_THREADS"]
    pools = dict.fromkeys(names, str(contestant.threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **pools, **contestant.environ}


def command_of(contestant: Contestant) -> list[str]:
    """What to run."""
    if contestant.spec is None:
        return list(contestant.command)
    script = WORKERS / f"{contestant.worker}.py"
    return [str(python(contestant.environment)), str(script), json.dumps(asdict(contestant.spec))]


def play(
    task: str,
    contestants: Sequence[Contestant],
    *,
    rounds: int,
    box: float,
    say: Callable[[str], None] = print,
) -> list[Measurement]:
    """Every contestant in turn, `rounds` times over; who fails once is not asked again.

    Where all of ours have failed there is nothing to compare with, and the peers are spared. box:
    seconds after which a process is ended and counts as failed.
    """
    ours = {each.name for each in contestants if each.side == "ours"}
    found: list[Measurement] = []
    out: set[str] = set()
    for number in range(1, rounds + 1):
        for each in contestants:
            if each.name in out or ours <= out or (each.once and number > 1):
                continue
            values = run(each, box=box)
            if FAILED in values:
                out.add(each.name)
            about = (task, each.name, each.side, each.threads, number)
            found += [Measurement(*about, metric, value) for metric, value in values.items()]
            shown = "  ".join(f"{key} {_short(value)}" for key, value in values.items())
            say(f"{task}, round {number}, {each.name}: {shown}")
    return found


def run(contestant: Contestant, *, box: float) -> dict[str, float | str]:
    """One process from start to end: what it measured, and how long it took as a whole."""
    if problem := build(contestant.environment):
        return {FAILED: problem}
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="process-", dir=WORK) as scratch:
        began = time.perf_counter()
        process = subprocess.Popen(
            command_of(contestant),
            env={**environ_of(contestant), "TMPDIR": scratch},
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, errors = process.communicate(timeout=box)
        except BaseException as error:  # an interrupt ends it too
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: it and what it started
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return {FAILED: f"not done in {box:.0f} s"}
            raise
        seconds = time.perf_counter() - began
    if process.returncode:
        return {FAILED: _last(errors) or f"exit code {process.returncode}"}
    values = {} if contestant.spec is None else parse(out)
    return values if FAILED in values else {**values, "process_seconds": seconds}


def parse(out: str) -> dict[str, float | str]:
    """The last line of a worker's output that is a JSON object."""
    for line in reversed(out.splitlines()):
        if line.startswith("{"):
            found = json.loads(line)
            return {FAILED: found["skipped"]} if "skipped" in found else found
    return {FAILED: "it printed no measurements"}


def _last(errors: str) -> str:
    lines = [each for each in errors.splitlines() if each.strip()]
    return lines[-1].replace(f"{ROOT}/", "")[:300] if lines else ""


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
