"""A prepared data set of several shards: ranges of users, and days that were appended.

    manifest.json                 beside what interactions.py says: the shards, in order
    users.parquet, ...            of the users and items that were there at first
    shard-00000/ ...              indptr, item, code, time of a range of users
    day-00001/ ...                the same of all users, of the events appended then, and
                                  users.parquet, items.parquet, user_hash.npy, item_hash.npy of
                                  those whom they brought

A user's events are those of all shards together: in order of time, equal times in order of shards.
What reads block by block (records, splits) holds one block in memory; `item`, `code` and `time` of
the whole are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from nmtr.data.interactions import Interactions
from nmtr.data.reading.identifiers import join_ids
from nmtr.data.spool import Sorted, by_user_and_time
from nmtr.data.vocabulary import Vocabulary

EVENTS = 2**25  # of a shard, about
COLUMNS: Mapping[str, np.dtype[Any]] = {
    "item": np.dtype("<i4"),
    "code": np.dtype("i1"),
    "time": np.dtype("<i8"),
}


@dataclass(frozen=True)
class Shard:
    """The events of users low..high-1: arrays as those of Interactions."""

    low: int
    high: int
    indptr: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    code: npt.NDArray[np.int8]
    time: npt.NDArray[np.int64] | None

    @classmethod
    def open(cls, folder: Path, low: int, high: int) -> Shard:
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("indptr", *COLUMNS)
            if (folder / f"{name}.npy").exists()
        }
        return cls(low, high, **({"time": None} | arrays))

    def counts(self, low: int, high: int) -> npt.NDArray[np.int64]:
        """(high - low,) events of each of these users here."""
        found = np.zeros(high - low, np.int64)
        first, last = max(low, self.low), min(high, self.high)
        if first < last:
            own = self.indptr[first - self.low : last - self.low + 1]
            found[first - low : last - low] = np.diff(own)
        return found

    def part(self, name: str, low: int, high: int) -> Any:
        """A column of the events of these users here."""
        first, last = (min(max(each, self.low), self.high) - self.low for each in (low, high))
        return getattr(self, name)[self.indptr[first] : self.indptr[last]]


class Sharded(Interactions):
    """A prepared data set whose events lie in several shards."""

    def __init__(self, shards: tuple[Shard, ...], **fields: Any) -> None:
        for name, value in {"time": None, "shards": shards, **fields}.items():
            if name != "time":
                object.__setattr__(self, name, value)

    shards: tuple[Shard, ...]

    @property
    def n_events(self) -> int:
        return sum(len(each.item) for each in self.shards)

    @cached_property
    def indptr(self) -> npt.NDArray[np.int64]:
        counts = sum(each.counts(0, self.n_users) for each in self.shards)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def item(self) -> npt.NDArray[np.int32]:
        return self._joined("item")

    @cached_property
    def code(self) -> npt.NDArray[np.int8]:
        return self._joined("code")

    @cached_property
    def time(self) -> npt.NDArray[np.int64] | None:
        return None if self.shards[0].time is None else self._joined("time")

    def block(self, low: int, high: int) -> Interactions:
        found = [each for each in self.shards if each.counts(low, high).any()]
        counts = [each.counts(low, high) for each in found]
        indptr = self.indptr[low : high + 1] - self.indptr[low]
        timed = self.shards[0].time is not None
        names = [name for name in COLUMNS if timed or name != "time"]
        columns: dict[str, Any] = {"time": None}
        for name in names:
            parts = [each.part(name, low, high) for each in found]
            columns[name] = np.concatenate(
                [np.empty(0, COLUMNS[name]), *parts], dtype=COLUMNS[name]
            )
        users = [np.repeat(np.arange(high - low, dtype=np.int32), each) for each in counts]
        user = np.concatenate([np.empty(0, np.int32), *users])
        time = columns["time"] if timed else np.empty(0, np.int64)
        step = np.diff(user)
        late = timed and bool(((step == 0) & (np.diff(time) < 0)).any())  # a day brought older ones
        if late or (step < 0).any():
            order = by_user_and_time(user, time, indptr, timed)
            columns |= {name: columns[name][order] for name in names}
        return self._block(low, high, indptr, **columns)

    def _joined(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(self.block(*each), name) for each in self.cuts()])


def open_shards(path: Path, manifest: Mapping[str, Any]) -> Sharded:
    """Open a data set of several shards, whose files were checked."""
    shards = tuple(Shard.open(path / each["folder"], *each["users"]) for each in manifest["shards"])
    folders = [path, *(path / each["folder"] for each in manifest.get("days", []))]
    hashes = {
        name: np.concatenate([np.load(each / f"{name}.npy") for each in folders])
        for name in ("user_hash", "item_hash")
    }
    vocabularies = {
        name: Vocabulary(
            join_ids(Vocabulary.load(each / f"{name}.parquet").ids for each in folders)
        )
        for name in ("users", "items")
    }
    pairs = {
        name: np.load(path / f"{name}.npy", mmap_mode="r")
        if f"{name}.npy" in manifest["files"]
        else None
        for name in ("holdout_user", "holdout_item")
    }
    return Sharded(shards, manifest=manifest, path=path, **vocabularies, **hashes, **pairs)


class ShardWriter:
    """Writes ranges of users that follow each other as one shard, in a folder that is there."""

    def __init__(self, folder: Path, *, timed: bool) -> None:
        self.low = self.high = -1
        self.events = 0
        self._folder = folder
        self._counts: list[npt.NDArray[np.int64]] = []
        names = [name for name in COLUMNS if timed or name != "time"]
        self._streams = {name: (folder / f"{name}.npy").open("wb") for name in names}
        self._head()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if error is None:
            self._head()
            indptr = np.concatenate([[0], np.cumsum(np.concatenate(self._counts))])
            np.save(self._folder / "indptr.npy", indptr.astype(np.int64))
        for stream in self._streams.values():
            stream.close()

    def add(self, part: Sorted) -> None:
        if self.low < 0:
            self.low = part.low
        self.high = part.high
        self.events += len(part.item)
        self._counts.append(part.counts)
        for name, stream in self._streams.items():
            np.ascontiguousarray(getattr(part, name), COLUMNS[name]).tofile(stream)

    def _head(self) -> None:
        """Write a head of so many events; NumPy leaves room in it for more."""
        for name, stream in self._streams.items():
            stream.seek(0)
            about = {
                "descr": np.lib.format.dtype_to_descr(COLUMNS[name]),
                "fortran_order": False,
                "shape": (self.events,),
            }
            np.lib.format.write_array_header_1_0(stream, about)
            stream.seek(0, 2)
            stream.flush()
