"""The prepared data set: a folder of memory-mapped arrays, vocabularies and a manifest.

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
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr import __version__
from nmtr.data.records import CSR, Records, distinct
from nmtr.data.vocabulary import Vocabulary
from nmtr.errors import DamagedError, UsageError
from nmtr.files import replace_folder, sha256

FORMAT = "nmtr-prepared"
SCHEMA = 1
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

    def records(self, keep: npt.NDArray[np.bool_] | None = None) -> Records:
        """Collapse events (all, or those kept) to pairs; an undo takes back what came before it."""
        code = self.code if keep is None else self.code[keep]
        user = self.user if keep is None else self.user[keep]
        item = self.item if keep is None else self.item[keep]
        keys = user.astype(np.int64) * self.n_items + item
        sets = []
        for r in range(len(self.behaviors)):
            mine = (code == r) | (code == -1 - r)
            pairs = _standing(keys[mine], code[mine] >= 0)
            sets.append(CSR.from_keys(pairs, self.n_users, self.n_items))
        return Records(self.behaviors, tuple(sets))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the folder whole or not at all.

        Raises UsageError if `path` exists and is not a prepared data set that `force` may replace.
        """
        path = Path(path)
        if path.exists() and not (force and _is_prepared(path)):
            advice = "add --force to replace it" if _is_prepared(path) else "name another folder"
            raise UsageError(f"{path} exists already; {advice}")
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
            files = {
                each.name: {"bytes": each.stat().st_size, "sha256": sha256(each)}
                for each in sorted(folder.iterdir())
            }
            about = {"format": FORMAT, "schema": SCHEMA, "nmtr": __version__}
            manifest = dict(self.manifest) | about | {"fingerprint": self.fingerprint()}
            manifest |= {"files": files}
            manifest["sha256"] = _checksum(manifest)
            text = json.dumps(manifest, indent=2)
            (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")

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
    path = Path(path)
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if path.is_file():
            raise UsageError(
                f"{path} is a file, not a prepared data set; prepare it first with "
                f"`nmtr prepare {path} --behaviors view,cart,buy --out DATA`"
            ) from None
        raise UsageError(
            f"{path} is no prepared data set (it has no manifest.json); make one with "
            f"`nmtr prepare EVENTS --behaviors view,cart,buy --out {path}`"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedError(
            f"{path}/manifest.json is not readable JSON ({error}); prepare it again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UsageError(f"{path}/manifest.json is not of a prepared data set (format '{FORMAT}')")
    if manifest.get("schema") != SCHEMA:
        raise DamagedError(
            f"{path} has schema {manifest.get('schema')}, this nmtr {__version__} reads {SCHEMA}; "
            "prepare it again or use the nmtr that wrote it"
        )
    if manifest.get("sha256") != _checksum(manifest):
        raise DamagedError(
            f"{path}/manifest.json was altered: its sha256 is not the one it states; "
            "prepare it again"
        )
    small = sum(each["bytes"] for each in manifest["files"].values()) <= CHECKED_ON_LOAD
    verify(path, manifest, contents=small)
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


def verify(path: Path, manifest: Mapping[str, Any], *, contents: bool = True) -> None:
    """Compare each file's size, and with `contents` its sha256, to the manifest (DamagedError)."""
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.exists():
            raise DamagedError(f"{file} is missing; prepare the data set again")
        if file.stat().st_size != expected["bytes"]:
            raise DamagedError(
                f"{file} has {file.stat().st_size} bytes, the manifest says {expected['bytes']}; "
                "prepare the data set again"
            )
        if contents and sha256(file) != expected["sha256"]:
            raise DamagedError(
                f"{file} was altered: its sha256 is not the manifest's; prepare the data set again"
            )


def _checksum(manifest: Mapping[str, Any]) -> str:
    """sha256 of all that a manifest states but this."""
    stated = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def _is_prepared(path: Path) -> bool:
    """Whether the folder is a prepared data set, and not another's with a manifest of its own."""
    try:
        found = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def _standing(keys: npt.NDArray[np.int64], done: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Sorted distinct keys whose last event is not an undo; events come in order of time."""
    if done.all():
        return distinct(keys)
    unique, last_from_end = np.unique(keys[::-1], return_index=True)
    return unique[done[::-1][last_from_end]]
