"""Tables and plots of the model card, the experiment and the service's health."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

SHOWN_AT = (10, 100)  # cut-offs K of the model card, where a report has them
BARS = {0.5: "half", 0.99: "99 %"}


@dataclass(frozen=True)
class Mark:
    """An estimate on a scale, in per cent of its width; low, high: its interval, if it has one."""

    at: float
    low: float | None = None
    high: float | None = None


def mark(value: float, low: float | None, high: float | None, ends: tuple[float, float]) -> Mark:
    start, stop = ends
    width = (stop - start) or 1.0

    def place(number: float) -> float:
        return round(min(100.0, max(0.0, 100 * (number - start) / width)), 2)

    if low is None or high is None:
        return Mark(place(value))
    return Mark(place(value), place(low), place(high))


def ends(values: Sequence[float | None]) -> tuple[float, float]:
    """A scale that holds zero and all values."""
    found = [each for each in values if each is not None and math.isfinite(each)]
    return min([0.0, *found]), max([0.0, *found])


@dataclass(frozen=True)
class Line:
    """A model in a slice: its metrics by name, and the plotted one."""

    model: str
    values: Sequence[float]
    mark: Mark


@dataclass(frozen=True)
class Sliced:
    name: str
    users: int
    lines: Sequence[Line]


@dataclass(frozen=True)
class Table:
    """A report of one protocol; plotted: the metric that the marks show, on a scale up to `top`."""

    protocol: str
    words: str
    metrics: Sequence[str]
    plotted: str
    top: float
    slices: Sequence[Sliced]


def tables(reports: Mapping[str, Any]) -> Iterator[Table]:
    """A table for each report of a model card that can be shown as one, test before validation."""
    for report in sorted(reports.values(), key=lambda each: each.get("fold") != "test"):
        models: Mapping[str, Any] = report.get("models", {})
        first: Mapping[str, Any] = next(iter(models.values()), {})
        known: Mapping[str, Any] = next(iter(first.values()), {})
        names = [f"{kind}@{k}" for kind in ("hr", "ndcg") for k in SHOWN_AT]
        metrics = [each for each in names if each in known]
        if not metrics:
            continue
        plotted = metrics[-1]
        means = [
            each[plotted] for found in models.values() for each in found.values() if plotted in each
        ]
        scale = ends([value for each in means for value in (each["mean"], each["high"])])
        slices = [
            Sliced(name, int(first[name][plotted]["users"]), [
                Line(model, [found[name][each]["mean"] for each in metrics],
                     _mark(found[name][plotted], scale))
                for model, found in models.items() if plotted in found.get(name, {})
            ])
            for name in first if plotted in first[name]
        ]  # fmt: skip
        yield Table(
            report.get("protocol", ""), report.get("in_words", ""), metrics, plotted, scale[1],
            slices,
        )  # fmt: skip


def _mark(metric: Mapping[str, Any], scale: tuple[float, float]) -> Mark:
    return mark(metric["mean"], metric["low"], metric["high"], scale)


def estimates(arms: Sequence[Mapping[str, Any]], name: str) -> tuple[list[Mark | None], float]:
    """A mark of each arm for `conversion` or `per_list`, and where their common scale ends."""
    found = [each[name] for each in arms]
    scale = ends([each[of] for each in found for of in ("value", "high")])
    marks = [
        None if each["value"] is None else mark(each["value"], each["low"], each["high"], scale)
        for each in found
    ]
    return marks, scale[1]


@dataclass(frozen=True)
class Column:
    """Requests whose answer took at most `until` seconds, and more than the column before."""

    until: float
    requests: float
    height: float


@dataclass(frozen=True)
class Health:
    """What the service counted since it started; loaded: seconds since 1970 UTC, of the bundles;
    within: by share, seconds that cover it.
    """

    loaded: float
    requests: int
    failed: int
    lists: Mapping[str, int]
    events: Mapping[str, int]
    lost: int
    waiting: Mapping[str, int]
    columns: Sequence[Column]
    within: Mapping[str, float | None]


def health(registry: CollectorRegistry) -> Health:
    samples = [each for family in registry.collect() for each in family.samples]

    def sums(name: str, label: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for each in samples:
            if each.name == name:
                key = each.labels.get(label, "")
                found[key] = found.get(key, 0) + int(each.value)
        return found

    status = sums("nmtr_requests_total", "status")
    steps = {float(key): n for key, n in sums("nmtr_request_seconds_bucket", "le").items()}
    columns = list(_columns(steps))
    waiting = {
        "to be scored": sums("nmtr_recommendations_waiting", "").get("", 0),
        "to be stored": sums("nmtr_store_rows_waiting", "").get("", 0),
    }
    loaded = sums("nmtr_model_loaded_timestamp_seconds", "").get("", 0)
    return Health(
        loaded, sum(status.values()), sum(n for key, n in status.items() if key >= "5"),
        sums("nmtr_recommendations_total", "basis"), sums("nmtr_events_total", "outcome"),
        sums("nmtr_exposures_lost_total", "").get("", 0), waiting, columns,
        {words: _within(columns, share) for share, words in BARS.items()},
    )  # fmt: skip


def _columns(steps: Mapping[float, int]) -> Iterator[Column]:
    """From requests up to each bound to those between bounds."""
    before, found = 0, []
    for until, total in sorted(steps.items()):
        found.append((until, total - before))
        before = total
    most = max((n for _, n in found), default=0) or 1
    for until, n in found:
        yield Column(until, n, round(100 * n / most, 2))


def _within(columns: Sequence[Column], share: float) -> float | None:
    """The bound that covers a share of the requests; None where there is none, or no request."""
    wanted = share * sum(each.requests for each in columns)
    covered = 0.0
    for each in columns:
        covered += each.requests
        if covered >= wanted > 0:
            return each.until if math.isfinite(each.until) else None
    return None
