"""Rows that cannot be read: quoted in an error, or dropped and counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.errors import DataError

WRONG_FIELDS = "wrong number of fields"
BROKEN_QUOTES = "broken quotes"
BROKEN_JSON = "broken JSON"
NOT_UTF8 = "not UTF-8"
MISSING_USER = "missing user"
MISSING_ITEM = "missing item"
MISSING_BEHAVIOR = "missing behaviour"
UNREADABLE_TIME = "unreadable time"
UNKNOWN_BEHAVIOR = "unknown behaviour"
OVER_CAP = "user over the cap"

QUOTED = 80  # characters of a value in a message


@dataclass
class Faults:
    """Counts the rows of a log as they are read and those that are left out, by reason.

    `policy` 'error' turns the first malformed row into a DataError, 'drop' counts it.
    """

    policy: str
    rows_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, *, place: str, expected: str, came: str, count: int = 1) -> None:
        """Record `count` malformed rows, the first at `place`; DataError under policy 'error'."""
        if self.policy == "error":
            raise DataError(
                f"{place}: {reason}: expected {expected}, got {came}; correct the row, "
                "or leave such rows out (and counted) with --malformed drop"
            )
        self.dropped[reason] += count


@dataclass(frozen=True)
class Block:
    """Rows of one source as they came: columns user_id, item_id, behavior, timestamp? (raw).

    Row i stands at `lines[i]`, or at `first` + i where `lines` is None; `unit` is 'line' or 'row'.
    """

    frame: pl.DataFrame
    source: str
    first: int = 0
    lines: Sequence[int] | npt.NDArray[np.int64] | None = None
    unit: str = "line"

    def place(self, row: int) -> str:
        """Where a row stands, for a message: `events.csv line 17`."""
        number = self.first + row if self.lines is None else int(self.lines[row])
        return f"{self.source} {self.unit} {number}"


def quote(value: object) -> str:
    """A value as it came, short enough for a message; a field without one is `nothing`."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"
