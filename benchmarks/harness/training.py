"""Tasks of training: samples a second, and epochs."""

from __future__ import annotations

from typing import Any

from harness.roster import FACTORS, Roster
from harness.tasks import Target, Task

BATCHES = (2048, 8192, 32_768)  # RecBole counts samples, negatives among them


def train_neumf(roster: Roster) -> Task:
    """Three behaviours of ours against the one of RecBole's."""
    return _samples(roster, "neumf", "NeuMF", Target("times", 6))


def train_gmf(roster: Roster) -> Task:
    """RecBole's BPR draws one negative a positive; each positive counts as our five samples."""
    return _samples(roster, "gmf", "BPR", Target("times", 10))


def _samples(roster: Roster, unit: str, model: str, target: Target) -> Task:
    peers = [
        roster.recbole(model, f"batch {size:,}", "train", training={"train_batch_size": size})
        for size in BATCHES
    ]
    return Task(
        f"train-{unit}",
        f"train nmtr-{unit}, three behaviours, against RecBole's {model}, one",
        "samples_per_second",
        "more",
        (roster.own(f"nmtr-{unit}", "train"), *peers),
        target,
    )


def train_bpr_1(roster: Roster) -> Task:
    """On one thread."""
    return _bpr(roster, 1)


def train_bpr_2(roster: Roster) -> Task:
    """On two threads."""
    return _bpr(roster, 2)


def _bpr(roster: Roster, threads: int) -> Task:
    ours = {"embedding": FACTORS}
    cornac = {"k": FACTORS, "learning_rate": 0.05, "lambda_reg": 0.01}
    implicit = {"factors": FACTORS, "learning_rate": 0.05, "regularization": 0.01}
    how: dict[str, Any] = {"threads": threads, "target_only": True, "model": "bpr"}
    return Task(
        f"train-bpr-{threads}",
        f"an epoch of BPR on the target alone, {FACTORS} factors, {threads} thread(s)",
        "seconds_per_epoch",
        "less",
        (
            roster.nmtr("nmtr bpr", "train", options=ours, training={"negatives": [1]}, **how),
            roster.peer("cornac", "Cornac BPR", "train", options=cornac, **how),
            roster.peer("implicit", "implicit BPR", "train", options=implicit, **how),
        ),
        Target("times", 1),
    )


def train_warp(roster: Roster) -> Task:
    """Two losses that do not ask the same of an epoch, so no target."""
    options = {"no_components": FACTORS, "learning_rate": 0.05}
    return Task(
        "train-warp",
        "an epoch on the target alone, nmtr-gmf's log loss beside lightfm-next's WARP",
        "seconds_per_epoch",
        "less",
        (
            roster.own("nmtr-gmf", "train", target_only=True),
            roster.peer("lightfm", "lightfm-next WARP", "train", model="warp", options=options),
        ),
    )
