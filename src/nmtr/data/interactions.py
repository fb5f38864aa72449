"""The prepared data set: a folder of memory-mapped arrays, vocabularies and a manifest.

What is small, or was prepared in memory, lies in the folder itself; what is large, or had days
appended, is of several shards (shards.py), each a folder of such arrays.

    manifest.json    behaviours, counts, options, what was dropped, sha256 of every other file
    users.parquet, items.parquet              the ids, an index each (append-only)
    user_hash.npy (M,), item_hash.npy (N,)    uint64, by which hold-outs are drawn
    indptr.npy (M + 1,)                       the events of user u are indptr[u] .. indptr[u + 1]
    item.npy (events,) int32                  in order of time within a user
    code.npy (events,) int8                   r for behaviour r, -1 - r where the event undoes it
    time.npy (events,) int64                  milliseconds since 1970 UTC, if the log has times
    holdout_user.npy, holdout_item.npy        int32, only where a file names the held-out pairs
    user_attributes.parquet, item_attributes.parquet   a row for each, only where they were given

Events stay events here; they become pairs only after the split (split.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.data.manifest import check_new, files_in, read_manifest, seal, verify
from nmtr.data.records import CSR, Records, distinct, user_cuts
from nmtr.data.vocabulary import Vocabulary
from nmtr.files import replace_folder

ARRAYS = (
    "user_hash",
    "item_hash",
    "indptr",
    "item",
    "code",
    "time",
    "holdout_user",
    "holdout_item",
)
ATTRIBUTES = ("user_attributes", "item_attributes")
EVENTS_AT_ONCE = 2**23  # collapsed to pairs, or split, at once
CHECKED_ON_LOAD = (
    256 * 2**20
)  # bytes; above this, load() compares sizes only and verify() reads all


@dataclass(frozen=True)
class Interactions:
    """A prepared data set, opened. Arrays as in the module's description; `time` may be None."""

    manifest: Mapping[str, Any]
    users: Vocabulary
    items: Vocabulary
    user_hash: npt.NDArray[np.uint64]
    item_hash: npt.NDArray[np.uint64]
    indptr: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    code: npt.NDArray[np.int8]
    time: npt.NDArray[np.int64] | None = None
    holdout_user: npt.NDArray[np.int32] | None = None
    holdout_item: npt.NDArray[np.int32] | None = None
    user_attributes: pl.DataFrame | None = None
    item_attributes: pl.DataFrame | None = None
    path: Path | None = None

    @property
    def behaviors(self) -> tuple[str, ...]:
        return tuple(self.manifest["behaviors"])

    @property
    def n_users(self) -> int:
        return len(self.user_hash)

    @property
    def n_items(self) -> int:
        return len(self.item_hash)

    @property
    def n_events(self) -> int:
        return len(self.item)

    @property
    def holdout(self) -> Mapping[str, Any]:
        """How test is held out: {"rule": "random" | "last" | "time" | "file", ...}."""
        found: Mapping[str, Any] = self.manifest["holdout"]
        return found

    @property
    def repurchase(self) -> bool:
        """Whether an item that was bought may be recommended, and count as truth, again."""
        return bool(self.manifest["repurchase"])

    @cached_property
    def user(self) -> npt.NDArray[np.int32]:
        """(events,) the user of each event."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.indptr))

    def cuts(self) -> list[tuple[int, int]]:
        """Ranges of users, one after the other, each of about EVENTS_AT_ONCE events."""
        return user_cuts(self.indptr, EVENTS_AT_ONCE)

    def block(self, low: int, high: int) -> Interactions:
        """The users low..high-1 alone, numbered from 0, with all items."""
        start, stop = self.indptr[low], self.indptr[high]
        return self._block(
            low, high, self.indptr[low : high + 1] - start,
            *(None if each is None else each[start:stop]
              for each in (self.item, self.code, self.time)),
        )  # fmt: skip

    def _block(
        self, low: int, high: int, indptr: Any, item: Any, code: Any, time: Any
    ) -> Interactions:
        pairs: dict[str, Any] = {"holdout_user": None, "holdout_item": None}
        if self.holdout_user is not None and self.holdout_item is not None:
            mine = (self.holdout_user >= low) & (self.holdout_user < high)
            pairs["holdout_user"] = self.holdout_user[mine] - np.int32(low)
            pairs["holdout_item"] = self.holdout_item[mine]
        return Interactions(
            manifest={each: v for each, v in self.manifest.items() if each != "fingerprint"},
            users=Vocabulary(self.users.ids[low:high]), items=self.items,
            user_hash=self.user_hash[low:high], item_hash=self.item_hash,
            indptr=indptr, item=item, code=code, time=time, **pairs,
        )  # fmt: skip

    def records(self, keep: npt.NDArray[np.bool_] | None = None, *, timed: bool = False) -> Records:
        """Collapse events (all, or those kept) to pairs; an undo takes back what came before it.

        timed: with the time of each pair's last event, where the log has times.
        """
        if self.n_events <= EVENTS_AT_ONCE:
            return self._records(keep, timed)
        parts = []
        for low, high in self.cuts():
            own = None if keep is None else keep[self.indptr[low] : self.indptr[high]]
            parts.append(self.block(low, high)._records(own, timed))
        return Records.stacked(parts)

    def _records(self, keep: npt.NDArray[np.bool_] | None, timed: bool) -> Records:
        code = self.code if keep is None else self.code[keep]
        user = self.user if keep is None else self.user[keep]
        item = self.item if keep is None else self.item[keep]
        keys = user.astype(np.int64) * self.n_items + item
        sets = []
        for r in range(len(self.behaviors)):
            mine = (code == r) | (code == -1 - r)
            pairs = _standing(keys[mine], code[mine] >= 0)
            at = None
            if timed and self.time is not None:
                times = self.time if keep is None else self.time[keep]
                at = _last_times(keys[mine], times[mine], pairs)
            sets.append(CSR.from_keys(pairs, self.n_users, self.n_items, at))
        return Records(self.behaviors, tuple(sets))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the folder whole or not at all.

        Raises UsageError if `path` exists and is not a prepared data set that `force` may replace.
        """
        path = Path(path)
        check_new(path, force=force)
        with replace_folder(path) as folder:
            self.users.save(folder / "users.parquet")
            self.items.save(folder / "items.parquet")
            for name in ARRAYS:
                array = getattr(self, name)
                if array is not None:
                    np.save(folder / f"{name}.npy", array)
            for name in ATTRIBUTES:
                frame = getattr(self, name)
                if frame is not None:
                    frame.write_parquet(folder / f"{name}.parquet")
            manifest = {n: v for n, v in self.manifest.items() if n not in ("shards", "days")}
            manifest |= {"fingerprint": self.fingerprint()}
            seal(folder, manifest, files_in(folder))

    def fingerprint(self) -> str:
        """Short hash of the contents, which a run records so that it meets the same data again."""
        if "fingerprint" in self.manifest:  # of a saved data set, which load() has verified
            return str(self.manifest["fingerprint"])
        total = hashlib.sha256(f"{self.behaviors}{self.holdout}{self.repurchase}".encode())
        for name in ARRAYS:
            array = getattr(self, name)
            if array is not None:
                total.update(name.encode())
                total.update(np.ascontiguousarray(array).view(np.uint8).data)
        for name in ATTRIBUTES:
            frame = getattr(self, name)
            if frame is not None:
                total.update(name.encode())
                total.update(frame.write_csv().encode())
        return total.hexdigest()[:16]


def load(path: str | Path) -> Interactions:
    """Open a prepared data set; the arrays stay on disk until they are read.

    Raises UsageError if there is none at `path`, DamagedError if a file is missing or altered.
    """
    from nmtr.data.shards import open_shards

    path = Path(path)
    manifest = read_manifest(path)
    small = sum(each["bytes"] for each in manifest["files"].values()) <= CHECKED_ON_LOAD
    verify(path, manifest, contents=small)
    if "shards" in manifest:
        return open_shards(path, manifest)
    arrays = {
        name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ARRAYS
        if f"{name}.npy" in manifest["files"]
    }
    frames = {
        name: pl.read_parquet(path / f"{name}.parquet", use_statistics=False)
        for name in ATTRIBUTES
        if f"{name}.parquet" in manifest["files"]
    }
    users, items = (Vocabulary.load(path / f"{name}.parquet") for name in ("users", "items"))
    return Interactions(
        manifest=manifest,
        path=path,
        users=users,
        items=items,
        user_attributes=frames.get("user_attributes"),
        item_attributes=frames.get("item_attributes"),
        **arrays,
    )


def _last_times(
    keys: npt.NDArray[np.int64], times: npt.NDArray[np.int64], pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(pairs,) when the last event of each pair was; those of a pair come in order of time."""
    order = np.argsort(keys, kind="stable")
    last = np.searchsorted(keys[order], pairs, side="right") - 1
    return np.asarray(times[order[last]], np.int64)


def _standing(keys: npt.NDArray[np.int64], done: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Sorted distinct keys whose last event is not an undo; events come in order of time."""
    if done.all():
        return distinct(keys)
    unique, last_from_end = np.unique(keys[::-1], return_index=True)
    return unique[done[::-1][last_from_end]]
