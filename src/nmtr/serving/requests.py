"""What is asked of a service, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from nmtr.errors import UsageError
from nmtr.serving.rules import Rules

Slice = Literal["all", "new", "in-funnel"]
Basis = Literal["model", "fold-in", "popular"]
MOST = 10_000  # items in one answer


class Event(NamedTuple):
    """Something a user did after the bundle was made.

    timestamp: milliseconds since 1970 UTC, if known; undo: it takes back an earlier one.
    """

    item: object
    behavior: str
    timestamp: int | None = None
    undo: bool = False


@dataclass(frozen=True)
class Request:
    """Who asks, and for what.

    user: an id, or None for an anonymous visitor. events: since the bundle, in order of time.
    slice: `all` items, those `new` to the user (no record), or those `in-funnel` (a record, but
    none of the target). now: milliseconds since 1970 UTC, for repurchase windows; None for the
    clock's.
    """

    user: object = None
    events: tuple[Event, ...] = ()
    k: int = 20
    slice: Slice = "all"
    rules: Rules = field(default_factory=Rules)
    now: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST:
            raise UsageError(f"k: expected 1 to {MOST:,}, got {self.k}")
        if self.slice not in get_args(Slice):
            raise UsageError(
                f"slice: expected one of {', '.join(get_args(Slice))}, got {self.slice!r}"
            )


@dataclass(frozen=True)
class Item:
    """One recommended item.

    behaviors: per behaviour, the probability of a record, or the score where the model is not
    calibrated; empty where the basis is `popular`.
    """

    item: Any
    rank: int
    score: float
    behaviors: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What a service recommends.

    basis: the `model` as trained, its `fold-in` of a history that training did not see, or what is
    `popular`: for who has no history, or where the rules left nothing else. calibrated: whether
    `behaviors` are probabilities. unknown: events that were left out, as their items are not known.
    """

    items: tuple[Item, ...]
    basis: Basis
    calibrated: bool
    unknown: int = 0
