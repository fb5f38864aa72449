"""Figures for Prometheus, of one process; no label ever holds an id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nmtr.serving.http.drift import Drift

M = TypeVar("M", Counter, Histogram)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """What is counted; `text` is what /metrics answers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[object, ...], Counter | Histogram] = {}
        place = ("route", "method")
        self.requests = self._counter(
            "nmtr_requests", "HTTP requests by answer.", (*place, "status")
        )
        self.seconds = Histogram(
            "nmtr_request_seconds", "Time from a request to its answer.", place,
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.in_flight = self._gauge("nmtr_requests_in_flight", "Requests that are being answered.")
        self.recommendations = self._counter(
            "nmtr_recommendations", "Lists shown, by arm and what they rest on.", ("arm", "basis")
        )
        self.explored = self._counter("nmtr_explored", "Lists drawn at random, by arm.", ("arm",))
        self.unlogged = self._counter(
            "nmtr_exposures_lost", "Lists that were shown and could not be stored."
        )
        self.events = self._counter(
            "nmtr_events", "Events received: accepted, duplicate, conflict, erased.", ("outcome",)
        )
        self.reloads = self._counter("nmtr_reloads", "Attempts to load bundles anew.", ("outcome",))
        self.model = self._gauge(
            "nmtr_model_info", "The bundles that are served.", ("arm", "model", "fingerprint")
        )
        self.loaded = self._gauge("nmtr_model_loaded_timestamp_seconds", "When they were loaded.")
        self.store_up = self._gauge("nmtr_store_up", "1 if the store could last be read.")
        self.together = Histogram(
            "nmtr_batch_size", "Requests that were scored together.",
            buckets=(1, 2, 4, 8, 16, 32), registry=self.registry,
        )  # fmt: skip
        self.drift = Drift(self.registry)

    def recommended(self, arm: str, basis: str, who: str, explored: bool) -> None:
        """Count one list."""
        self._child(self.recommendations, arm, basis).inc()
        self._child(self.drift.lists, arm, who).inc()
        if explored:
            self._child(self.explored, arm).inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._child(self.requests, route, method, str(status)).inc()
        self._child(self.seconds, route, method).observe(seconds)

    def _child(self, of: M, *labels: str) -> M:
        """The same as `of.labels(...)`, which takes longer than all else here."""
        key = (of, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = of.labels(*labels)
        return found  # type: ignore[return-value]  # the key holds what kind it is

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A gauge that is asked for its value when it is shown."""
        self._gauge(name, about).set_function(value)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)
