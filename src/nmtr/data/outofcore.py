"""From event files to a prepared data set in bounded memory, as prepare.py makes it in memory.

One pass over the files numbers the ids and parts the events by user into a spool on disk; each part
is then sorted and written. In memory are the ids, a block of the log, and a part.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.data import shards
from nmtr.data.events import ReadOptions
from nmtr.data.indexing import Indexer
from nmtr.data.manifest import check_new, files_in, seal
from nmtr.data.prepare import check_names, cut_of, held_pairs, plain, refuse_missing, rule_of
from nmtr.data.shards import ShardWriter
from nmtr.data.spool import Spool, digest
from nmtr.data.streaming import EventStream
from nmtr.data.vocabulary import Vocabulary, hash_ids
from nmtr.errors import DataError
from nmtr.files import replace_folder

SPOOL = "spool"


@dataclass
class Gathered:
    """What one pass over a log leaves beside its spool.

    codes: (256,) events of each code, from -128 on; digests: of each source file, its events'.
    """

    stream: EventStream
    users: Indexer
    items: Indexer
    spool: Spool
    codes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    digests: dict[str, int] = field(default_factory=dict)
    first_time: int | None = None
    last_time: int | None = None
    target_times: list[npt.NDArray[np.int64]] = field(default_factory=list)

    @property
    def behaviors(self) -> tuple[str, ...]:
        return tuple(self.stream.options.behaviors or ())

    @property
    def timed(self) -> bool:
        return self.spool.timed

    def stated(self) -> dict[str, Any]:
        """What a manifest says of these events; DataError where none are left."""
        report = self.stream.report()
        counts = {name: int(self.codes[128 + r]) for r, name in enumerate(self.behaviors)}
        return {
            "users": len(self.users),
            "items": len(self.items),
            "events": self.spool.events,
            "events_per_behavior": counts,
            "undo_events": int(self.codes[:128].sum()),
            "sources": [str(each.path) for each in self.stream.found],
            "read": asdict(report),
            "digests": {name: f"{value:016x}" for name, value in self.digests.items()},
            "last_time": self.last_time,
        }


def gather(
    sources: Sequence[str | Path],
    options: ReadOptions,
    folder: Path,
    *,
    users: Indexer,
    items: Indexer,
    wants_times: bool = False,
) -> Gathered:
    """Read a log once, into a spool in `folder`; raises as read_events does."""
    stream = EventStream(sources, options)
    found: Gathered | None = None
    target = len(options.behaviors or ()) - 1
    for block in stream.blocks():
        if found is None:
            spool = Spool(folder / SPOOL, timed=block.time is not None)
            found = Gathered(stream, users, items, spool)
        user, item, code = users.index(block.user), items.index(block.item), block.code
        found.spool.add(user, item, code, block.time)
        found.codes += np.bincount(code.astype(np.int64) + 128, minlength=256)
        time = np.empty(0, np.int64) if block.time is None else block.time
        name = block.source
        own = int(digest(user, item, code, time, found.timed))
        found.digests[name] = (found.digests.get(name, 0) + own) % 2**64
        if block.time is not None:
            low, high = int(time.min()), int(time.max())
            found.first_time = min(low, found.first_time if found.first_time is not None else low)
            found.last_time = max(high, found.last_time if found.last_time is not None else high)
            if wants_times:
                found.target_times.append(time[code == target])
    if found is None:
        stream.report()
        raise DataError("the log has no events left to learn from; see what was dropped and why")
    return found


def prepare_files(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    behaviors: Sequence[str],
    holdout: str | Path = "auto",
    repurchase: bool = False,
    seed: int = 0,
    options: ReadOptions | None = None,
    force: bool = False,
) -> Mapping[str, Any]:
    """Prepare event files into the folder `out`, and return its manifest.

    As prepare() of read_events() with the same arguments, in memory that does not grow with the
    events. Beside `out` it needs disk for the events a second time while it works. Raises
    UsageError or DataError with what to do; nothing is left then.
    """
    out = Path(out)
    check_new(out, force=force)
    behaviors = tuple(behaviors)
    check_names(behaviors)
    chosen = ReadOptions(**{**vars(options or ReadOptions()), "behaviors": behaviors})
    with replace_folder(out) as folder:
        found = gather(
            sources, chosen, folder, users=Indexer(), items=Indexer(),
            wants_times=str(holdout) == "auto" or str(holdout).startswith("time:"),
        )  # fmt: skip
        stated = found.stated()
        refuse_missing([name for name, n in stated["events_per_behavior"].items() if n], behaviors)
        rule, held = _hold_out(str(holdout), found, chosen)
        stated |= {"users": len(found.users), "items": len(found.items)}
        _write_ids(folder, found)
        for name, array in held.items():
            np.save(folder / f"{name}.npy", array)
        about: dict[str, Any] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "behaviors": list(behaviors),
            "repurchase": repurchase,
            "holdout": rule | {"seed": seed},
            "options": plain(asdict(options)) if options else {},
        } | stated
        made = _write_shards(folder, found)
        if made:
            about["shards"] = made
        shutil.rmtree(folder / SPOOL)
        about["fingerprint"] = _fingerprint(folder, about)
        seal(folder, about, files_in(folder))
    return about


def _hold_out(
    text: str, found: Gathered, options: ReadOptions
) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.int32]]]:
    """The rule, and the held-out pairs by index where a file names them."""
    target = found.behaviors[-1]
    rule = rule_of(text, has_time=found.timed)
    if rule["rule"] == "time":
        times = pl.Series(np.sort(np.concatenate(found.target_times)))
        return {"rule": "time", "cut": cut_of(str(rule["cut"]), times, target)}, {}
    if rule["rule"] != "file":
        return rule, {}
    known = {"user_id": found.users.ids.dtype, "item_id": found.items.ids.dtype}
    pairs = held_pairs(text, known, target, options, shown=str(rule["file"]))
    return rule, {
        "holdout_user": found.users.index(pairs["user_id"]),
        "holdout_item": found.items.index(pairs["item_id"]),
    }


def _write_ids(folder: Path, found: Gathered) -> None:
    for name, indexer in (("user", found.users), ("item", found.items)):
        ids = indexer.ids
        Vocabulary(ids).save(folder / f"{name}s.parquet")
        np.save(folder / f"{name}_hash.npy", hash_ids(ids))


def _write_shards(folder: Path, found: Gathered) -> list[dict[str, Any]]:
    """Write the spooled events: into the folder itself, or, if they are many, into shards of it.

    Returns what the manifest says of the shards.
    """
    ranges = found.spool.ranges(len(found.users))
    if found.spool.events <= shards.EVENTS:
        with ShardWriter(folder, timed=found.timed) as writer:
            for each in ranges:
                writer.add(each)
        return []
    made: list[dict[str, Any]] = []
    more = next(ranges, None)
    while more is not None:
        name = f"shard-{len(made):05d}"
        (folder / name).mkdir()
        with ShardWriter(folder / name, timed=found.timed) as writer:
            while more is not None and not (
                writer.events and writer.events + len(more.item) > shards.EVENTS
            ):
                writer.add(more)
                more = next(ranges, None)
        made.append({"folder": name, "users": [writer.low, writer.high]})
    return made


def _fingerprint(folder: Path, about: Mapping[str, Any]) -> str:
    """What Interactions.fingerprint says of the same data in memory, from the files."""
    behaviors = tuple(about["behaviors"])
    total = hashlib.sha256(f"{behaviors}{about['holdout']}{about['repurchase']}".encode())
    folders = [folder / each["folder"] for each in about.get("shards", [])] or [folder]
    for name in ("user_hash", "item_hash"):
        _add(total, name, [folder])
    total.update(b"indptr")
    last = 0
    for number, each in enumerate(folders):
        indptr = np.load(each / "indptr.npy")
        total.update(np.ascontiguousarray(indptr[number > 0 :] + last).view(np.uint8).data)
        last += int(indptr[-1])
    for name in ("item", "code", "time"):
        _add(total, name, folders)
    for name in ("holdout_user", "holdout_item"):
        _add(total, name, [folder])
    return total.hexdigest()[:16]


def hash_arrays(folder: Path, before: str) -> str:
    """A fingerprint of what was there before and the arrays of a folder."""
    total = hashlib.sha256(before.encode())
    for each in sorted(folder.glob("*.npy")):
        _add(total, each.stem, [folder])
    return total.hexdigest()[:16]


def _add(total: Any, name: str, folders: Sequence[Path]) -> None:
    """Add an array, whose pieces lie in these folders, to a hash; nothing where there is none."""
    if not (folders[0] / f"{name}.npy").exists():
        return
    total.update(name.encode())
    for each in folders:
        with (each / f"{name}.npy").open("rb") as stream:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_1_0(stream)
            while piece := stream.read(2**22):
                total.update(piece)
