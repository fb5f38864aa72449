"""How far what comes in has moved from what the bundles were trained on; no label holds an id."""

from __future__ import annotations

import math
from collections import Counter as Counts
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from nmtr.serving.http.arms import Arm, Arms

LOOKED_UP = 50  # items of a call, at about the most; looking up costs microseconds each
FEW = 100  # events, below which shares say nothing


class Drift:
    """Figures of one process, since its bundles were loaded or since its start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(name, about, labels, registry=registry)

        self.created = gauge(
            "nmtr_model_created_timestamp_seconds", "When the bundle was made.", "arm"
        )
        self.trained = gauge(
            "nmtr_model_trained_before_timestamp_seconds",
            "The bundle learned from nothing later.", "arm",
        )  # fmt: skip
        self.retire = gauge(
            "nmtr_model_retire_by_timestamp_seconds",
            "The bundle was trained with an erased person, and must go by then.", "arm",
        )  # fmt: skip
        self.usual = gauge(
            "nmtr_trained_events_per_day", "Events a day in the log it learned from.", "behavior"
        )
        self.psi = gauge(
            "nmtr_behavior_psi",
            "Population stability index of the behaviours' shares since the bundles were loaded.",
        )
        self.psi.set_function(self._psi)
        self.lists = Counter(
            "nmtr_lists_for", "Lists for who was in the bundle, was not, or was not named.",
            ("arm", "who"), registry=registry,
        )  # fmt: skip
        self.behaviors = Counter(
            "nmtr_events_by_behavior", "Events accepted.", ("behavior",), registry=registry
        )
        self.items = Counter(
            "nmtr_event_items", "Events, of at most about 50 a call, on items that the bundle has.",
            ("item",), registry=registry,
        )  # fmt: skip
        self._rates: Mapping[str, float] = {}
        self._since: Counts[str] = Counts()

    def loaded(self, arms: Arms) -> None:
        """Take the bundles' own figures; shares are counted anew."""
        for each in (self.created, self.trained, self.retire, self.usual):
            each.clear()
        for arm in arms.arms:
            manifest = arm.bundle.manifest
            made = datetime.fromisoformat(str(manifest["created"]))
            self.created.labels(arm.name).set(made.timestamp())
            before = _trained_before(manifest)
            if before is not None:
                self.trained.labels(arm.name).set(before / 1000)
            by = manifest.get("erased_deadline")
            if by is not None:
                self.retire.labels(arm.name).set(by / 1000)
        self._rates = arms.arms[0].bundle.manifest.get("events_per_day") or {}
        for name, rate in self._rates.items():
            self.usual.labels(name).set(rate)
        self._since = Counts()

    def accepted(self, arm: Arm, behaviors: Collection[str], items: Sequence[str]) -> None:
        """Count a call's events."""
        for name, count in Counts(behaviors).items():
            self.behaviors.labels(name).inc(count)
            self._since[name] += count
        known = arm.service.ledger.items
        for item in items[:: max(1, len(items) // LOOKED_UP)]:
            self.items.labels("known" if known.index(item) >= 0 else "unknown").inc()

    def _psi(self) -> float:
        counts = [self._since[name] for name in self._rates]
        return stability(counts, list(self._rates.values())) if sum(counts) >= FEW else math.nan


def stability(found: Sequence[float], expected: Sequence[float]) -> float:
    """The population stability index, the sum of (p - q) log(p / q) of two mixtures' shares.

    NaN where one holds nothing. A share of 0 counts as half a hundredth of a percent.
    """
    if not (sum(found) and sum(expected)):
        return math.nan
    total = 0.0
    for a, b in zip(found, expected, strict=True):
        p, q = max(a / sum(found), 5e-5), max(b / sum(expected), 5e-5)
        total += (p - q) * math.log(p / q)
    return total


def _trained_before(manifest: Mapping[str, Any]) -> int | None:
    found: int | None = manifest.get("trained_before") or manifest.get("last_event")
    return found
