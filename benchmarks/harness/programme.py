"""All tasks, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness import processes, ranking, training
from harness.roster import Roster
from harness.tasks import Task

TASKS: Mapping[str, Callable[[Roster], Task]] = {
    "train-neumf": training.train_neumf,
    "train-gmf": training.train_gmf,
    "train-bpr-1": training.train_bpr_1,
    "train-bpr-2": training.train_bpr_2,
    "train-warp": training.train_warp,
    "top-gmf": ranking.top_gmf,
    "top-neumf": ranking.top_neumf,
    "top-neumf-bfloat16": ranking.top_neumf_bfloat16,
    "rank-neumf": ranking.rank_neumf,
    "memory": ranking.memory,
    "start": processes.start,
    "load": processes.load,
    "size": processes.size,
    "time-to-quality": processes.time_to_quality,
    "time-to-quality-ials": processes.time_to_quality_ials,
}


def selected(wanted: Sequence[str], *, known: Sequence[str] = tuple(TASKS)) -> list[str]:
    """The tasks that are named, or that begin with a name and a dash; all where none is named.

    Raises ValueError for a name that means none.
    """
    for name in wanted:
        if not any(_means(name, each) for each in known):
            raise ValueError(f"unknown task '{name}'; there are {', '.join(known)}")
    return [each for each in known if not wanted or any(_means(name, each) for name in wanted)]


def _means(name: str, task: str) -> bool:
    return task == name or task.startswith(f"{name}-")
