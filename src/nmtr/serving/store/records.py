"""What goes into the store and what comes out of it.

Times are whole microseconds since 1970 in UTC. Ids are text of 1 to 256 characters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nmtr.errors import DataError

LONGEST = 256
LAST_TIME = 253_402_300_799_999_999  # the end of the year 9999


def now() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a user, or a visitor who has not logged in, did to an item.

    timestamp: when it happened; None for when it is received. event_id: the client's, by which a
    repeat is known. recommendation_id: the response that led to it. Raises DataError.
    """

    item_id: str
    behavior: str
    user_id: str | None = None
    visitor_id: str | None = None
    timestamp: int | None = None
    event_id: str | None = None
    recommendation_id: str | None = None

    def __post_init__(self) -> None:
        if (self.user_id is None) == (self.visitor_id is None):
            raise DataError("an event: expected either a user_id or a visitor_id, got both or none")
        check_text("item_id", self.item_id)
        check_text("behavior", self.behavior)
        for name in ("user_id", "visitor_id", "event_id", "recommendation_id"):
            value = getattr(self, name)
            if value is not None:
                check_text(name, value)
        check_time("timestamp", self.timestamp)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one response showed: items in their order, a score and a propensity for each.

    at: when; None for when it is stored. arm: the side of an experiment. model: the fingerprint of
    the bundle. propensities: how likely each item was to be shown where it was. Neither user nor
    visitor is named where nobody was. Raises DataError.
    """

    recommendation_id: str
    items: Sequence[str]
    scores: Sequence[float]
    propensities: Sequence[float]
    model: str
    arm: str = ""
    user_id: str | None = None
    visitor_id: str | None = None
    at: int | None = None

    def __post_init__(self) -> None:
        if self.user_id is not None and self.visitor_id is not None:
            raise DataError("an exposure: expected a user_id or a visitor_id, got both")
        for name in ("recommendation_id", "model", "user_id", "visitor_id"):
            value = getattr(self, name)
            if value is not None:
                check_text(name, value)
        if self.arm:
            check_text("arm", self.arm)
        for item in self.items:
            check_text("items", item)
        check_time("at", self.at)
        for name, values in (("scores", self.scores), ("propensities", self.propensities)):
            if len(values) != len(self.items):
                raise DataError(
                    f"{name}: expected one for each of {len(self.items)} items, got {len(values)}"
                )
            if not all(map(math.isfinite, values)):
                raise DataError(f"{name}: expected finite numbers, got {list(values)}")


class Receipt(NamedTuple):
    """What became of one call's events; it is given after the commit.

    accepted + duplicates + len(conflicts) + erased == the number of events. duplicates: ids that
    were there with the same content. conflicts: ids that were there with other content, which
    stays. erased: of persons who were erased.
    """

    accepted: int = 0
    duplicates: int = 0
    conflicts: tuple[str, ...] = ()
    erased: int = 0


class Stored(NamedTuple):
    """One event of a person's history."""

    seq: int
    item_id: str
    behavior: str
    timestamp: int
    recommendation_id: str | None


class Erasure(NamedTuple):
    """The receipt of an erasure.

    hash: the keyed hash by which the person is known from now on. events, exposures, visitors: rows
    that went, and visitors merged into the user. deadline: by when artefacts made before `at`, such
    as bundles and exports, must be retired. refused: events that came after, and were not stored.
    compacted: the rows' bytes are gone from the store's files too.
    """

    hash: str
    at: int
    deadline: int
    events: int
    exposures: int
    visitors: int
    refused: int
    compacted: bool


def check_text(name: str, value: object) -> None:
    """Raise DataError unless `value` is text that every database can hold as an id."""
    if not isinstance(value, str):
        raise DataError(f"{name}: expected text, got {value!r}")
    if not 0 < len(value) <= LONGEST:
        raise DataError(f"{name}: expected 1 to {LONGEST} characters, got {len(value)}")
    if "\0" in value or not (value.isascii() or _encodable(value)):
        raise DataError(f"{name}: expected characters of Unicode other than NUL, got {value!a}")


def check_time(name: str, value: int | None) -> None:
    """Raise DataError unless `value` is None or whole microseconds from 1970 to the year 9999."""
    if value is None or (type(value) is int and 0 <= value <= LAST_TIME):
        return
    raise DataError(f"{name}: expected whole microseconds since 1970 in UTC, got {value!r}")


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True
