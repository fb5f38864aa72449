"""What every worker shares: the spec it is given, the window it measures in, the line it prints.

A worker is one script for one package. It runs as a process of its own in that package's
environment, so nothing here needs more than Python. It is given one JSON spec and prints one JSON
line of measurements last.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

WARM_STEPS = 3  # a training's first steps compile, allocate and page in


class SkippedError(Exception):
    """Raised by a step that this package, as installed, cannot do; the reason is its message."""


@dataclass(frozen=True)
class Spec:
    """What to measure.

    steps: in order, from those that the worker knows. data: a prepared data set for nmtr, an .npz
    of target pairs for the others. fold: `validation` trains on what stays when test and validation
    are taken out; `all` on everything. shape: (users, items) of the tables, where they are to be
    larger than the data. seconds: to measure at least; box: to measure at most; fitting: that a
    fit may take, which then keeps what it has learned. users: to rank, 0 for all; batch: users
    scored at once, 0 for the package's own choice.
    """

    steps: tuple[str, ...]
    data: str = ""
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    target_only: bool = False
    fold: str = "validation"
    shape: tuple[int, ...] = ()
    weights: str = ""
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    seconds: float = 5.0
    box: float = 30.0
    fitting: float = 3600.0
    users: int = 0
    batch: int = 0
    k: int = 200
    samples_per_positive: int = 5

    @classmethod
    def parse(cls, text: str) -> Spec:
        """A spec from JSON; raises ValueError that names what it does not know."""
        found = json.loads(text)
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(found) - set(known))
        if unknown or "steps" not in found:
            raise ValueError(
                f"expected a spec of steps and any of {', '.join(known)}; got {', '.join(found)}"
            )
        tuples = {name: tuple(found[name]) for name in ("steps", "shape") if name in found}
        return cls(**(found | tuples))


class Window:
    """Times steps of training: whole epochs until `seconds` have passed, or `box` seconds of one.

    The clock starts when the first few steps are done.
    """

    def __init__(
        self, seconds: float, box: float, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds, self.box, self.clock = seconds, box, clock
        self.made = clock()
        self.setup = 0.0  # until the first step was done
        self.began = self.ended = 0.0
        self.first = self.last = 0  # steps done when the clock started and stopped
        self.steps = 1
        self.whole = False

    def step(self, epoch: int, step: int, steps: int) -> bool:
        """Note that a step (from 1) of an epoch (from 1) of so many steps is done; True when over.

        Over is over: later steps are not counted.
        """
        now = self.clock()
        done = (epoch - 1) * steps + step
        if done == 1:
            self.setup = now - self.made
        if not self.first:
            if done >= min(WARM_STEPS, steps):
                self.began, self.first, self.steps = now, done, steps
            return False
        self.last, self.ended = done, now
        elapsed = now - self.began
        self.whole = (done - self.first) % steps == 0
        return elapsed >= self.box or (self.whole and elapsed >= self.seconds)

    @property
    def seconds_per_epoch(self) -> float:
        """Where the box cut an epoch short, its beginning is charged in full, set-up and all."""
        if self.last <= self.first:
            raise SkippedError("the training ended before its warm-up did")
        steps = (self.ended - self.began) / (self.last - self.first) * self.steps
        return steps if self.last - self.first >= self.steps else self.setup + steps


def repeat(call: Callable[[], object], *, seconds: float) -> float:
    """Seconds of one call, called until `seconds` have passed in all."""
    began, times = time.perf_counter(), 0
    while True:
        call()
        times += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return elapsed / times


def peak_mib() -> float:
    """The most memory this process has held.

    Linux hands a parent's high water down through getrusage, so its own is read where it stands.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


Step = Callable[[Spec, Any], Mapping[str, float]]


def main(load: Callable[[Spec], Any], steps: Mapping[str, Step]) -> None:
    """Load, take the steps asked for, print what was measured."""
    spec = Spec.parse(sys.argv[1])
    sys.argv[1:] = []  # RecBole reads it too
    found: dict[str, Any] = {}
    try:
        began = time.perf_counter()
        subject = load(spec)
        found["load_seconds"] = time.perf_counter() - began
        for name in spec.steps:
            found |= steps[name](spec, subject)
        found["peak_mib"] = peak_mib()
    except SkippedError as reason:
        found = {"skipped": str(reason)}
    print("\n" + json.dumps(found), flush=True)
