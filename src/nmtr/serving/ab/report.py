"""The report of an experiment: conversion by arm, what it differs by, and whether to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from nmtr.serving.ab.offpolicy import Sums, values
from nmtr.serving.ab.outcomes import PERSON, Outcomes
from nmtr.serving.ab.sequential import TAU, Estimate, mismatch, proportion, ratio

SUSPICIOUS = 0.001  # p of the dealing, below which no figure here is to be trusted


@dataclass(frozen=True)
class Compared:
    """An arm of the experiment: the name to show, the label it is logged under, its share."""

    name: str
    label: str
    share: float


def report(
    found: Outcomes, arms: Sequence[Compared], *, hours: float, alpha: float, now: datetime
) -> dict[str, Any]:
    """The first arm is the one that the others are compared with, at alpha divided among them.

    Conversion: of the persons whose window of `hours` since their first list is over, the share
    who did it within; each enters once, with an outcome that stays, as the sequential test needs.
    """
    level = alpha / max(1, len(arms) - 1)
    counts = [found.persons.filter(pl.col("arm") == each.label).height for each in arms]
    p = mismatch(counts, [each.share for each in arms])
    rows: list[dict[str, Any]] = []
    firsts: list[Estimate] = []
    for arm, met in zip(arms, counts, strict=True):
        row, estimates = _arm(found, arm, met, hours, level, now)
        firsts = firsts or estimates
        for name, mine, first in zip(("conversion", "per_list"), estimates, firsts, strict=True):
            row[name]["difference"] = None if not rows else _difference(mine, first, level)
        rows.append(row)
    return {
        "window_hours": hours,
        "alpha": alpha,
        "tau": TAU,
        "persons": found.persons.height,
        "crossed": int((found.persons["arms"] > 1).sum()),
        "lists_for_nobody": int(found.lists[PERSON].null_count()),
        "dealing": {
            "p_value": p, "mismatch": p < SUSPICIOUS,
            "shares": {each.name: each.share for each in arms},
            "persons": {each.name: n for each, n in zip(arms, counts, strict=True)},
        },
        "arms": rows,
    }  # fmt: skip


def _arm(
    found: Outcomes, arm: Compared, met: int, hours: float, alpha: float, now: datetime
) -> tuple[dict[str, Any], list[Estimate]]:
    mine = found.persons.filter(pl.col("arm") == arm.label)
    window = timedelta(hours=hours)
    over = mine.filter(pl.col("first") + window <= now)
    did = over.filter(pl.col("done") <= pl.col("first") + window).height
    conversion = proportion(did, over.height)
    lists = found.lists.filter(pl.col("arm") == arm.label)
    each = lists.drop_nulls(PERSON).group_by(PERSON).agg(pl.col("cited").sum(), n=pl.len())
    per_list = ratio(
        each["cited"].to_numpy().astype(np.float64), each["n"].to_numpy().astype(np.float64)
    )
    row = {
        "name": arm.name,
        "share": arm.share,
        "persons": met,
        "in_window": met - over.height,
        "lists": lists.height,
        "conversion": {"persons": over.height, "did": did, **_shown(conversion, alpha)},
        "per_list": {"cited": int(lists["cited"].sum()), **_shown(per_list, alpha)},
        "exploration": _explored(lists, alpha),
    }
    return row, [conversion, per_list]


def _explored(lists: pl.DataFrame, alpha: float) -> dict[str, Any]:
    """What the arm's best lists alone get, by lists that were drawn at random among them."""
    person = lists[PERSON].fill_null("").rank("dense").cast(pl.Int64).to_numpy().copy()
    nobody = lists[PERSON].is_null().to_numpy()
    person[nobody] = -1 - np.arange(int(nobody.sum()))
    rewards, weights, places = (
        lists[name].cast(pl.Float64).to_numpy() for name in ("rewards", "weights", "places")
    )
    found = values(Sums(rewards, weights, places, person))
    return {
        "explored": int(lists["explored"].sum()),
        "best_by_ips": _shown(found.ips, alpha),
        "best_by_snips": _shown(found.snips, alpha),
    }


def _shown(estimate: Estimate, alpha: float) -> dict[str, float | None]:
    low, high = estimate.interval(alpha) or (None, None)
    return {"value": _plain(estimate.value), "low": low, "high": high}


def _difference(mine: Estimate, first: Estimate, alpha: float) -> dict[str, float | None]:
    found = mine.minus(first)
    share = found.value / first.value if first.value else math.nan
    return {**_shown(found, alpha), "p_value": found.p_value(), "relative": _plain(share)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def now() -> datetime:
    return datetime.now(UTC)
