"""Measurements: one number of one process, and the CSV files that keep them all."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FAILED = "failed"  # the metric of a process that gave no number; its value says why


@dataclass(frozen=True)
class Measurement:
    """One number that one process gave, in one of the rounds of a task."""

    task: str
    contestant: str
    side: str  # ours or peer
    threads: int
    round: int
    metric: str
    value: float | str


@dataclass(frozen=True)
class Summary:
    """Median and spread of the rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary | None:
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values), len(values))


def by_round(found: Sequence[Measurement], contestant: str, metric: str) -> dict[int, float]:
    """A contestant's numbers, by the round that they were taken in."""
    return {
        each.round: each.value
        for each in found
        if each.contestant == contestant
        and each.metric == metric
        and not isinstance(each.value, str)
    }


def reason(found: Sequence[Measurement], contestant: str) -> str:
    """Why a contestant has no numbers; empty where it has."""
    failed = [str(each.value) for each in found if _is(each, contestant, failed=True)]
    worked = any(_is(each, contestant, failed=False) for each in found)
    return failed[-1] if failed and not worked else ""


def _is(each: Measurement, contestant: str, *, failed: bool) -> bool:
    return each.contestant == contestant and (each.metric == FAILED) is failed


def write(path: Path, found: Sequence[Measurement]) -> None:
    """Write a task's measurements, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".unfinished")
    with temporary.open("w", newline="") as stream:
        names = [each.name for each in fields(Measurement)]
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        for each in found:
            row = asdict(each)
            value = row["value"]
            writer.writerow(row | {"value": value if isinstance(value, str) else f"{value:.6g}"})
    temporary.replace(path)


def read(path: Path) -> list[Measurement]:
    """What write wrote; nothing where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [_parse(row) for row in csv.DictReader(stream)]


def _parse(row: dict[str, str]) -> Measurement:
    value = row["value"] if row["metric"] == FAILED else float(row["value"])
    counts = {name: int(row[name]) for name in ("threads", "round")}
    return Measurement(
        row["task"], row["contestant"], row["side"], **counts, metric=row["metric"], value=value
    )
