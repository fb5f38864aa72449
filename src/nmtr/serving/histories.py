"""What users have done: the bundle's records, and what they did since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nmtr.data.records import CSR, Histories, Records
from nmtr.errors import UsageError
from nmtr.serving.lookup import Lookup
from nmtr.serving.requests import Event

Items = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Current:
    """One user's records now.

    index: in the bundle, -1 for who is not there; items: per behaviour, ascending; changed: whether
    they are other than training knew; unknown: events whose items the bundle does not know; bought:
    the times of target events after the bundle, by item; times: ms of each of `items`, where the
    bundle keeps them.
    """

    index: int
    items: tuple[Items, ...]
    changed: bool
    unknown: int
    bought: dict[int, int | None]
    times: tuple[Times, ...] | None = None

    def seen(self) -> Items:
        return np.unique(np.concatenate(self.items))

    def funnel(self) -> Items:
        """Items with an auxiliary record and no target record."""
        below = np.concatenate([*self.items[:-1], np.zeros(0, np.int32)])
        return np.setdiff1d(below, self.items[-1])

    def without(self, item: int) -> tuple[Items, ...]:
        """The records less those of one item."""
        return tuple(each[each != item] for each in self.items)

    def times_of(self, rows: Sequence[Items]) -> tuple[Times, ...] | None:
        """When the user met some of their items; one that is theirs no more is as old as any."""
        if self.times is None:
            return None
        oldest = min((int(each.min()) for each in self.times if len(each)), default=0)
        found = []
        for row, items, times in zip(rows, self.items, self.times, strict=True):
            at = np.minimum(np.searchsorted(items, row), max(len(items) - 1, 0))
            found.append(
                np.where(items[at] == row, times[at], oldest)
                if len(items)
                else np.full(len(row), oldest)
            )
        return tuple(found)


class Ledger:
    """Looks up what users have done.

    target_time: (target pairs,) ms of each target record's last event, or None. trained: the
    records that training saw; None where all of them count as known to it.
    """

    def __init__(
        self,
        records: Records,
        users: Lookup,
        items: Lookup,
        target_time: npt.NDArray[np.int64] | None = None,
        trained: Records | None = None,
    ) -> None:
        self.records, self.users, self.items = records, users, items
        self.trained = trained
        self.target_time = target_time
        self._places = {name: r for r, name in enumerate(records.behaviors)}
        self._none = (np.zeros(0, np.int32),) * len(records.sets)
        self.timed = all(each.at is not None for each in records.sets)

    def current(self, user: object, events: Sequence[Event] = ()) -> Current:
        """A user's records and events since; UsageError for a behaviour that is not known."""
        found = self.at(-1 if user is None else self.users.index(user))
        return self._after(found, events) if events else found

    def at(self, index: int) -> Current:
        """What the bundle knows of a user by index, -1 for a stranger."""
        before, times = self.before(index), self._times(index) if self.timed else None
        if self.trained is None or index < 0:
            return Current(index, before, False, 0, {}, times)
        items = _rows(self.records, index)
        return Current(index, items, any(map(_differ, items, before)), 0, {}, times)

    def _times(self, index: int) -> tuple[Times, ...]:
        if index < 0:
            return (np.zeros(0, np.int64),) * len(self.records.sets)
        rows = (each.between(index, index + 1).at for each in self.records.sets)
        return tuple(np.asarray(each, np.int64) for each in rows)

    def _after(self, user: Current, events: Sequence[Event]) -> Current:
        times = user.times or tuple(np.zeros(len(each), np.int64) for each in user.items)
        sets: list[dict[int, int]] = [
            dict(zip(items.tolist(), at.tolist(), strict=True))
            for items, at in zip(user.items, times, strict=True)
        ]
        last = max((max(each.values()) for each in sets if each), default=0)
        bought: dict[int, int | None] = {}
        unknown = 0
        for event in events:
            r, item = self._place(event.behavior), self.items.index(event.item)
            if item < 0:
                unknown += 1
            elif event.undo:
                sets[r].pop(item, None)
            else:
                # An event without a time is taken to come after all that came before it.
                last = max(last, last + 1 if event.timestamp is None else event.timestamp)
                sets[r][item] = last if event.timestamp is None else event.timestamp
                if r == len(sets) - 1:
                    bought[item] = event.timestamp
        kept = [sorted(each.items()) for each in sets]
        found = tuple(np.array([item for item, _ in each], np.int32) for each in kept)
        at = tuple(np.array([time for _, time in each], np.int64) for each in kept)
        changed = any(map(_differ, found, self.before(user.index)))
        return Current(user.index, found, changed, unknown, bought, at if self.timed else None)

    def _place(self, behavior: str) -> int:
        if behavior not in self._places:
            raise UsageError(
                f"events: expected a behaviour of {', '.join(self._places)}, got {behavior!r}"
            )
        return self._places[behavior]

    def before(self, index: int) -> tuple[Items, ...]:
        """What training knew of a user."""
        return self._none if index < 0 else _rows(self.trained or self.records, index)

    def last_bought(self, user: Current, now: int) -> npt.NDArray[np.int64]:
        """When each of the user's target items was last bought; where that is not known, now."""
        bought = user.items[-1]
        found = np.full(len(bought), now, np.int64)
        if user.index >= 0 and self.target_time is not None:
            target = self.records.target
            low, high = target.indptr[user.index], target.indptr[user.index + 1]
            old = target.indices[low:high]
            at = np.minimum(np.searchsorted(old, bought), max(len(old) - 1, 0))
            if len(old):
                found = np.where(old[at] == bought, self.target_time[low:high][at], found)
        for item, time in user.bought.items():
            found[bought == item] = now if time is None else time
        return found


def _rows(records: Records, index: int) -> tuple[Items, ...]:
    return tuple(np.asarray(each.row(index)) for each in records.sets)


def _differ(one: Items, other: Items) -> bool:
    return not np.array_equal(one, other)


def together(
    users: Sequence[int],
    rows: Sequence[Sequence[Items]],
    n_items: int,
    times: Sequence[tuple[Times, ...] | None] = (),
) -> Histories:
    """Histories of B users: their indices, per behaviour their items, and times where known."""
    sets = [stacked(each, n_items) for each in zip(*rows, strict=True)]
    known = [each for each in times if each is not None]
    if known and len(known) == len(rows):
        at = [np.concatenate(each) for each in zip(*known, strict=True)]
        sets = [replace(each, at=own) for each, own in zip(sets, at, strict=True)]
    return Histories(np.array(users, np.int64), tuple(sets))


def stacked(rows: Sequence[Items], n_items: int) -> CSR:
    """A set of rows, one below the other."""
    if len(rows) == 1:
        return CSR(np.array([0, len(rows[0])]), np.asarray(rows[0], np.int32), n_items)
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(each) for each in rows], out=indptr[1:])
    joined = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    return CSR(indptr, np.asarray(joined, np.int32), n_items)
