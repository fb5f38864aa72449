"""Tasks of whole processes: starting, loading, growing logs, time to a given quality."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness import data
from harness.contest import Contestant
from harness.places import HERE
from harness.roster import Roster
from harness.tasks import Target, Task


def start(roster: Roster) -> Task:
    """Whole processes, the interpreter's own start among them."""
    command = Path(sys.executable).parent / "nmtr"
    return Task(
        "start",
        "nmtr --help against python -c pass, whole process, s",
        "process_seconds",
        "less",
        (
            Contestant("nmtr --help", command=(str(command), "--help")),
            Contestant("python -c pass", "peer", command=(sys.executable, "-c", "pass")),
        ),
        Target("plus", 0.3),
    )


def load(roster: Roster) -> Task:
    """RecBole reads a text file of the target alone, as it does at every start."""
    return Task(
        "load",
        "open Beibei, prepared, all behaviours; beside it RecBole, the target alone, s",
        "load_seconds",
        "less",
        (
            roster.nmtr("nmtr", "load", fold="all"),
            roster.recbole("BPR", "loading", "load"),
        ),
    )


def size(roster: Roster) -> Task:
    """The tables are of one size whatever the log, so only the log grows."""
    contestants: list[Contestant] = []
    for events in roster.scale.sizes:
        log = data.simulated(events)
        ours = {"data": str(log.prepared), "fold": "all", "shape": data.TABLES}
        theirs = {"data": str(log.pairs), "training": {"train_batch_size": 8192}}
        label = f"{events:,} events"
        contestants += [
            roster.own("nmtr-gmf", "train", label=f", {label}", **ours),
            roster.recbole("BPR", label, "train", **theirs),
        ]
    return Task(
        "size",
        "samples/s of nmtr-gmf as a simulated log grows, tables fixed: most over least cost",
        "samples_per_second",
        "more",
        tuple(contestants),
        Target("flat", 1.5),
    )


def time_to_quality(roster: Roster) -> Task:
    """By the cascade: settings chosen on validation, against EASE's quality on that validation."""
    return _quality(roster, "nmtr-gmf", "time-to-quality", "quality.toml")


def time_to_quality_ials(roster: Roster) -> Task:
    """By the quickest of our models that gets there."""
    return _quality(roster, "ials", "time-to-quality-ials", "quality-ials.toml")


def _quality(roster: Roster, model: str, name: str, config: str) -> Task:
    options = {"config": str(HERE / config)}
    quick = roster.scale.epochs
    training = {"epochs": quick} if quick else {}
    how: dict[str, Any] = {"worker": "quality", "options": options, "training": training}
    ease = roster.nmtr("EASE", "ease", **how)
    return Task(
        name,
        f"{model} from the log to EASE's NDCG@100 on discovery's validation, whole process, s",
        "process_seconds",
        "less",
        (
            roster.nmtr(f"{model}, whole run", "run", **how),
            Contestant("EASE on the target", "peer", worker=ease.worker, spec=ease.spec, once=True),
        ),
        Target("limit", 30),
        quality="ndcg@100",
    )
