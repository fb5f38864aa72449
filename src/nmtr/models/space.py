"""Search spaces as data: what `nmtr tune` may try for options of a model and of its training.

A model's Config names them (`Config.space`). An entry has one axis or several, each a number or a
choice: `axes` names them, `options` makes of their values what `nmtr train --set` takes, and `read`
finds their values in options that are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Side = Literal["low", "high"]
Behaviors = Sequence[str]
NO_WEIGHT = 1e-3  # a behaviour that weighs less might as well be left out
MARGIN = 0.02  # of a range's own scale: what lies nearer to an end is on its edge


class _Single:
    """An entry that is one axis, of the option's own name."""

    def sets(self, name: str) -> set[str]:
        return {name}

    def axes(self, name: str, behaviors: Behaviors) -> dict[str, Any]:
        return {name: self}

    def options(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.tidy(values[name])}

    def read(self, name: str, options: Mapping[str, Any], behaviors: Behaviors) -> dict[str, Any]:
        value = options[name]
        if isinstance(value, list | tuple):
            return {name: value[0]} if len(value) == 1 else {}
        return {name: value}

    def tidy(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Range(_Single):
    """A number from low to high, evenly or on a log scale.

    least, most: how far a search that is reopened may widen it.
    """

    low: float
    high: float
    log: bool = False
    least: float = -math.inf
    most: float = math.inf

    def __post_init__(self) -> None:
        if not (self.least <= self.low < self.high <= self.most and (self.low > 0 or not self.log)):
            raise ValueError(f"expected least <= low < high <= most, above 0 by log, got {self!r}")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    def place(self, value: float) -> float:
        """Where a value lies in the range's own scale: 0 at low, 1 at high."""
        if self.log and value <= 0:
            return -math.inf
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (at - low) / (high - low)

    def edge(self, value: float) -> Side | None:
        """The side on whose edge, or past which, a value lies; none where no value can be past."""
        place = self.place(value)
        if place <= MARGIN:
            return "low" if self.low > self.least else None
        if place >= 1 - MARGIN:
            return "high" if self.high < self.most else None
        return None

    def at(self, place: float) -> Any:
        """The value at a place in the range's own scale."""
        if self.log:
            return self.tidy(self.low * (self.high / self.low) ** place)
        return self.tidy(self.low + (self.high - self.low) * place)

    def widened(self, side: Side) -> Range:
        """The range, longer on one side by its own width, as far as that may be."""
        if side == "low":
            return replace(self, low=max(self.at(-1.0), self.least))
        return replace(self, high=min(self.at(2.0), self.most))

    def tidy(self, value: float) -> float:
        return _three_digits(value)


@dataclass(frozen=True)
class Whole(Range):
    """A whole number from low to high."""

    low: int
    high: int
    least: float = 1

    def tidy(self, value: float) -> int:
        return max(round(value), math.ceil(self.least))


@dataclass(frozen=True)
class Choice(_Single):
    """One of several values that have no order."""

    values: tuple[str | int | float | bool, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < 2:
            raise ValueError(f"expected two values or more to choose from, got {self.values}")

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))

    def contains(self, value: Any) -> bool:
        return value in self.values


Axis = Range | Choice


@dataclass(frozen=True)
class Cases:
    """Options that change together: one of several named sets of them."""

    cases: Mapping[str, Mapping[str, Any]]

    def sets(self, name: str) -> set[str]:
        return {option for case in self.cases.values() for option in case}

    def axes(self, name: str, behaviors: Behaviors) -> dict[str, Axis]:
        return {name: Choice(tuple(self.cases))}

    def options(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.cases[values[name]])

    def read(self, name: str, options: Mapping[str, Any], behaviors: Behaviors) -> dict[str, Any]:
        for title, case in self.cases.items():
            if all(_plain(options[option]) == _plain(value) for option, value in case.items()):
                return {name: title}
        return {}


@dataclass(frozen=True)
class Weights:
    """One weight per behaviour on a log scale, as a share of the target's, which is 1.

    empty: the option left empty stands for weights of empty^d, d levels below the target.
    """

    low: float
    high: float
    empty: float

    def sets(self, name: str) -> set[str]:
        return {name}

    def axes(self, name: str, behaviors: Behaviors) -> dict[str, Axis]:
        axis = Range(self.low, self.high, log=True, least=NO_WEIGHT)
        return dict.fromkeys(_titles(name, behaviors), axis)

    def options(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: (*map(_three_digits, values.values()), 1.0)} if values else {}

    def read(self, name: str, options: Mapping[str, Any], behaviors: Behaviors) -> dict[str, Any]:
        below = len(behaviors) - 1
        weights = options[name] or [self.empty ** (below - r) for r in range(below)] + [1.0]
        if len(weights) != len(behaviors) or not weights[-1]:
            return {}
        titles = _titles(name, behaviors)
        return {title: w / weights[-1] for title, w in zip(titles, weights[:-1], strict=True)}


Entry = Range | Choice | Cases | Weights
Space = Mapping[str, Entry]

# What every model that learns from batches of labelled pairs may be told.
BATCHES: Space = {
    "l2": Range(1e-4, 0.1, log=True, least=1e-6),
    "learning_rate": Range(0.01, 0.5, log=True),
    "batch_size": Whole(512, 8192, log=True, most=65_536),
    "negatives": Whole(1, 64, log=True),
}

# What Multi-Channel models may be told beside.
LEVELS: Space = {
    "beta": Range(0.0, 1.0, least=0.0, most=1.0),
    "level_weights": Weights(0.05, 2.0, empty=0.5),
}


def axes(space: Space, behaviors: Behaviors) -> dict[str, Axis]:
    """Every axis of a space, by its name."""
    found: dict[str, Axis] = {}
    for name, entry in space.items():
        found |= entry.axes(name, behaviors)
    return found


def options(space: Space, behaviors: Behaviors, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that values of all axes make."""
    found: dict[str, Any] = {}
    for name, entry in space.items():
        own = {axis: values[axis] for axis in entry.axes(name, behaviors)}
        found |= entry.options(name, own)
    return found


def read(space: Space, behaviors: Behaviors, given: Mapping[str, Any]) -> dict[str, Any]:
    """The axes' values that options say; those that no axis can say are left out."""
    found: dict[str, Any] = {}
    for name, entry in space.items():
        found |= entry.read(name, given, behaviors)
    return found


def edges(axes: Mapping[str, Axis], values: Mapping[str, Any]) -> dict[str, Side]:
    """The ranges on whose edge values lie, and the side; those past which nothing may lie apart."""
    found = {
        name: axis.edge(values[name])
        for name, axis in axes.items()
        if isinstance(axis, Range) and name in values
    }
    return {name: side for name, side in found.items() if side}


def _titles(name: str, behaviors: Behaviors) -> list[str]:
    return [f"{name}[{each}]" for each in behaviors[:-1]]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _three_digits(value: float) -> float:
    """A search tells no more apart, and a person reads no more."""
    return float(f"{value:.3g}")
