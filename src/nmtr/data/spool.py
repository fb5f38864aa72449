"""Events on their way to a prepared data set: parted by user on disk, then sorted part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]

USERS = 2**14  # of a part
EVENTS = 2**23  # sorted at once: some 300 MB
TIMED = np.dtype([("user", "<i4"), ("item", "<i4"), ("code", "i1"), ("time", "<i8")])
UNTIMED = np.dtype([("user", "<i4"), ("item", "<i4"), ("code", "i1")])


@dataclass(frozen=True)
class Sorted:
    """The events of the users low..high-1, by user, then time, then as they came.

    counts: (high - low,) events of each user; item, code, time: (events,).
    """

    low: int
    high: int
    counts: Int64s
    item: Int32s
    code: Codes
    time: Int64s | None


class Spool:
    """Takes events in the order of the log, holds them in a folder, gives them back sorted."""

    def __init__(self, folder: Path, *, timed: bool) -> None:
        self.folder, self.timed = folder, timed
        self.record = TIMED if timed else UNTIMED
        self.events = 0
        folder.mkdir()

    def add(self, user: Int32s, item: Int32s, code: Codes, time: Int64s | None) -> None:
        """Take a block of events, each array (n,)."""
        rows = np.empty(len(user), self.record)
        rows["user"], rows["item"], rows["code"] = user, item, code
        if time is not None:
            rows["time"] = time
        part = user // USERS
        low, high = int(part.min(initial=0)), int(part.max(initial=0))
        if low < high:
            order = np.argsort((part - low).astype(np.uint16 if high - low < 2**16 else np.int32),
                               kind="stable")  # fmt: skip
            rows, part = rows[order], part[order]
        bounds = np.searchsorted(part, np.arange(low, high + 2))
        for each, start, stop in zip(range(low, high + 1), bounds[:-1], bounds[1:], strict=True):
            if start < stop:
                with self._file(each).open("ab") as stream:
                    rows[start:stop].tofile(stream)
        self.events += len(rows)

    def ranges(self, users: int) -> Iterator[Sorted]:
        """All events of users 0..users-1, in ranges of users that follow each other."""
        for low in range(0, users, USERS):
            high = min(low + USERS, users)
            path = self._file(low // USERS)
            if not path.exists():
                yield self._sorted(np.empty(0, self.record), low, high)
                continue
            if path.stat().st_size <= EVENTS * self.record.itemsize:
                yield self._sorted(np.fromfile(path, self.record), low, high)
            else:
                yield from self._in_pieces(path, low, high)
            path.unlink()

    def _in_pieces(self, path: Path, low: int, high: int) -> Iterator[Sorted]:
        """A part of too many events, read once for each piece of its users."""
        counts = np.zeros(high - low, np.int64)
        for rows in self._blocks(path):
            counts += np.bincount(rows["user"] - low, minlength=high - low)
        total, start = 0, 0
        for user in range(high - low + 1):
            if user == high - low or (total + counts[user] > EVENTS and user > start):
                first, last = low + start, low + user
                kept = [
                    rows[(rows["user"] >= first) & (rows["user"] < last)]
                    for rows in self._blocks(path)
                ]
                yield self._sorted(np.concatenate(kept), first, last)
                start, total = user, 0
            if user < high - low:
                total += counts[user]

    def _blocks(self, path: Path) -> Iterator[npt.NDArray[np.void]]:
        with path.open("rb") as stream:
            while len(rows := np.fromfile(stream, self.record, count=2**20)):
                yield rows

    def _sorted(self, rows: npt.NDArray[np.void], low: int, high: int) -> Sorted:
        user = rows["user"] - np.int32(low)
        counts = np.bincount(user, minlength=high - low)
        starts = np.zeros(high - low + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        time = np.ascontiguousarray(rows["time"]) if self.timed else np.empty(0, np.int64)
        order = by_user_and_time(user, time, starts, self.timed)
        return Sorted(
            low, high, counts, rows["item"][order], rows["code"][order],
            time[order] if self.timed else None,
        )  # fmt: skip

    def _file(self, part: int) -> Path:
        return self.folder / f"{part:06d}"


def by_user_and_time(user: Int32s, time: Int64s, starts: Int64s, timed: bool) -> Int64s:
    """(n,) the events by user, then time, equal ones as they stand.

    starts: (users + 1,) where each user's begin once they are by user.
    """
    order = by_user(user, starts[:-1].copy())
    if timed:
        sorted_user, sorted_time = user[order], time[order]
        late = (np.diff(sorted_time) < 0) & (np.diff(sorted_user) == 0)
        mixed = np.zeros(len(starts) - 1, np.bool_)
        mixed[sorted_user[1:][late]] = True
        at = np.flatnonzero(mixed[sorted_user])
        order[at] = order[at[np.lexsort((sorted_time[at], sorted_user[at]))]]
    return order


@numba.njit(cache=True)
def by_user(user: Int32s, place: Int64s) -> Int64s:
    """(n,) the events by user, as they stand; place: where each user's begin, which is moved."""
    order = np.empty(len(user), np.int64)
    for at in range(len(user)):
        order[place[user[at]]] = at
        place[user[at]] += 1
    return order


@numba.njit(cache=True)
def digest(user: Int32s, item: Int32s, code: Codes, time: Int64s, timed: bool) -> np.uint64:
    """The sum of a hash of each event: the same whatever their order."""
    total = np.uint64(0)
    for at in range(len(user)):
        x = (np.uint64(user[at]) << np.uint64(32)) | np.uint64(item[at])
        x = scrambled(x + np.uint64(0x9E3779B97F4A7C15) * np.uint64(code[at] + 128))
        if timed:
            x = scrambled(x ^ np.uint64(time[at]))
        total += x
    return total


@numba.njit(cache=True, inline="always")
def scrambled(x: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
