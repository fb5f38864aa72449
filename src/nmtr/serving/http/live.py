"""What persons did lately, as the store has it: read once, kept until something new comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Literal, NamedTuple

import polars as pl

from nmtr.serving.cache import Cache
from nmtr.serving.requests import Event
from nmtr.serving.store import Store

KEPT = 50_000  # persons
LATEST = 2_000  # events of one person that count
Kind = Literal["user", "visitor"]


class Person(NamedTuple):
    """A user, or a visitor who has not logged in."""

    kind: Kind
    id: str


class Known(NamedTuple):
    """events: in order; erased: nothing may be known, not even what the bundle holds."""

    events: tuple[Event, ...] = ()
    erased: bool = False


class Live:
    """The latest events of persons.

    undo: behaviours by the names of the events that take them back. `any_erased` is kept true to
    the store by who follows it.
    """

    def __init__(self, store: Store, undo: Mapping[str, str]) -> None:
        self.store, self.undo = store, undo
        self.any_erased = True
        self._known: Cache[Known] = Cache(KEPT)
        self._owners: Cache[str] = Cache(KEPT)  # "" for nobody
        self._lock = Lock()
        self._reading: dict[Person, int] = {}  # how many read a person's events right now
        self._stale: set[Person] = set()  # of those, whose events changed meanwhile

    def of(self, persons: Sequence[Person]) -> dict[Person, Known]:
        """What each did; raises the store's errors."""
        wanted = set(persons)
        found = {each: known for each in wanted if (known := self._known.get(each)) is not None}
        if missing := wanted - found.keys():
            found |= self._read(missing)
        return found

    def forget(self, persons: Iterable[Person]) -> None:
        """Read these, and the users to whom visitors among them belong, anew when asked for."""
        either = set(persons)
        owners = {self._owner(each.id) for each in either if each.kind == "visitor"}
        with self._lock:
            for each in either | {Person("user", owner) for owner in owners if owner}:
                self._known.drop(each)
                if each in self._reading:
                    self._stale.add(each)

    def at_hand(self, persons: Iterable[Person]) -> bool:
        """Whether `forget` would not have to ask the store."""
        return all(each.kind == "user" or self._owners.get(each.id) is not None for each in persons)

    def owned(self, visitor: str, user: str) -> None:
        """Take note that a visitor belongs to a user."""
        self._owners.put(visitor, user)

    def forget_all(self) -> None:
        with self._lock:
            self._known.clear()
            self._owners.clear()
            self._stale |= self._reading.keys()

    def _read(self, persons: set[Person]) -> dict[Person, Known]:
        with self._lock:
            for each in persons:
                self._reading[each] = self._reading.get(each, 0) + 1
        found: dict[Person, Known] = {}
        try:
            gone = self._erased(persons) if self.any_erased else set()
            active = self._active(persons) if len(persons) > 1 else persons
            for each in persons:
                events = self._events(each) if each in active and each not in gone else ()
                found[each] = Known(events, each in gone)
        finally:
            with self._lock:
                for each in persons:
                    if each in found and each not in self._stale:
                        self._known.put(each, found[each])
                    self._reading[each] -= 1
                    if not self._reading[each]:
                        del self._reading[each]
                        self._stale.discard(each)
        return found

    def _owner(self, visitor: str) -> str:
        found = self._owners.get(visitor)
        if found is None:
            found = self._owners.add(visitor, self.store.owner(visitor) or "")
        return found

    def _active(self, persons: Iterable[Person]) -> set[Person]:
        """Who did anything at all; one question for many."""
        ids: dict[Kind, list[str]] = {"user": [], "visitor": []}
        for each in persons:
            ids[each.kind].append(each.id)
        users, visitors = self.store.active(users=ids["user"], visitors=ids["visitor"])
        return {Person("user", each) for each in users} | {
            Person("visitor", each) for each in visitors
        }

    def _events(self, person: Person) -> tuple[Event, ...]:
        who = {f"{person.kind}_id": person.id}
        stored = self.store.history(**who, limit=LATEST)  # type: ignore[arg-type]  # an id
        return tuple(
            Event(each.item_id, self.undo.get(each.behavior, each.behavior),
                  each.timestamp // 1000, each.behavior in self.undo)
            for each in stored
        )  # fmt: skip

    def _erased(self, persons: Iterable[Person]) -> set[Person]:
        gone: set[Person] = set()
        kinds: tuple[Kind, Kind] = ("user", "visitor")
        for kind in kinds:
            ids = [each.id for each in persons if each.kind == kind]
            if ids:
                frame = pl.DataFrame({"id": ids}, {"id": pl.String})
                left = self.store.honour(frame, column="id", kind=kind)["id"]
                gone |= {Person(kind, each) for each in set(ids) - set(left.to_list())}
        return gone
