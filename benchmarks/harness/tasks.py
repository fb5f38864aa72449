"""What a task is: who is timed against whom, by which number, and what is wanted of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.contest import Contestant


@dataclass(frozen=True)
class Target:
    """What ours is to reach.

    times: so many times as good as the best peer; plus: at most the best peer's and so much more;
    limit: at most this; flat: on any log at most so many times its cost on any other.
    """

    kind: Literal["times", "plus", "limit", "flat"]
    value: float


@dataclass(frozen=True)
class Task:
    """metric: the number of a process that counts; quality: one that ours must not lose by.

    Of several peers the best counts, of several of ours the worst.
    """

    name: str
    what: str
    metric: str
    better: Literal["more", "less"]
    contestants: tuple[Contestant, ...]
    target: Target | None = None
    quality: str = ""


@dataclass(frozen=True)
class Scale:
    """How long and how large: see the worker's Spec for seconds, box and users.

    epochs and fitting: of the models that rank, at most so many (0: as many as the experiment
    chose) and at most so many seconds; users: to rank with models of hidden layers; sizes: events
    of the simulated logs.
    """

    seconds: float = 6.0
    box: float = 45.0
    users: int = 1000
    epochs: int = 0
    fitting: float = 3600.0
    sizes: tuple[int, ...] = (10**5, 10**6, 10**7)
    threads: int = 2
    device: str = "cpu"


QUICK = Scale(seconds=0.5, box=3.0, users=100, epochs=1, fitting=15.0, sizes=(10**5, 10**6))
