"""A day of events appended to a prepared data set, whose other files stay as they are."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nmtr.data.events import ReadOptions
from nmtr.data.indexing import Indexer
from nmtr.data.interactions import CHECKED_ON_LOAD
from nmtr.data.manifest import files_in, read_manifest, seal, verify
from nmtr.data.outofcore import SPOOL, Gathered, gather, hash_arrays
from nmtr.data.reading.identifiers import join_ids
from nmtr.data.shards import ShardWriter
from nmtr.data.vocabulary import Vocabulary, hash_ids
from nmtr.errors import UsageError


def append(path: str | Path, sources: Sequence[str | Path]) -> Mapping[str, Any] | None:
    """Append event files to a prepared data set; its new manifest, or None if it has them already.

    The files are read by the options with which it was prepared. Indices, cut and rules stay, so
    that the result is that of preparing everything at once in this order, with the cut that the
    manifest states. Only the manifest is replaced, at the end: a kill leaves the data set as it
    was. A file is known again by its events, in whatever order they stand. Raises UsageError where
    some files are there already and others not, or the data set is one that nothing can be
    appended to; DataError as read_events does.
    """
    path = Path(path)
    manifest = read_manifest(path)
    with _alone(path):
        manifest = read_manifest(path)
        small = sum(each["bytes"] for each in manifest["files"].values()) <= CHECKED_ON_LOAD
        verify(path, manifest, contents=small)
        options = _options(manifest, path)
        number = len(manifest.get("days", [])) + 1
        for each in path.glob(".day.*.tmp"):  # of a run that was killed
            shutil.rmtree(each)
        temporary = path / f".day.{uuid.uuid4().hex[:8]}.tmp"
        temporary.mkdir()
        try:
            found = gather(
                sources, options, temporary,
                users=_indexer(path, manifest, "users"), items=_indexer(path, manifest, "items"),
            )  # fmt: skip
            if _is_known(path, manifest, found):
                return None
            return _keep(path, manifest, found, temporary, f"day-{number:05d}")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _options(manifest: Mapping[str, Any], path: Path) -> ReadOptions:
    """How the data set was read; UsageError where it is one to which nothing can be appended."""
    given = manifest["options"]
    why = None
    if manifest["holdout"]["rule"] == "file":
        why = "its hold-out is a file of pairs, whose ids stand after all others"
    elif given.get("cap") is not None:
        why = "it was prepared with --cap, which counts a user's events in the whole log"
    elif any(name.endswith("_attributes.parquet") for name in manifest["files"]):
        why = "it has attributes, which new users and items would lack"
    elif "subset" in manifest or not given:
        why = "it does not state how a log was read"
    if why:
        raise UsageError(f"{path}: nothing can be appended, because {why}; prepare all of it again")
    listed: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in given.items()
    }
    behaviors = tuple(manifest["behaviors"])
    return replace(ReadOptions(**listed), behaviors=behaviors, query=None, table=None)


def _indexer(path: Path, manifest: Mapping[str, Any], name: str) -> Indexer:
    folders = [path, *(path / each["folder"] for each in manifest.get("days", []))]
    return Indexer(join_ids(Vocabulary.load(each / f"{name}.parquet").ids for each in folders))


def _is_known(path: Path, manifest: Mapping[str, Any], found: Gathered) -> bool:
    """Whether all of the files were prepared or appended before; UsageError where some were."""
    parts = [manifest, *manifest.get("days", [])]
    known = {value for each in parts for value in each.get("digests", {}).values()}
    own = found.stated()["digests"]
    twice = [name for name, value in own.items() if value in known]
    if twice and len(twice) < len(own):
        raise UsageError(
            f"{path} has the events of {', '.join(map(repr, twice))} already, and not those of the "
            "other files; append those alone"
        )
    return bool(twice)


def _keep(
    path: Path, manifest: Mapping[str, Any], found: Gathered, temporary: Path, name: str
) -> Mapping[str, Any]:
    """Write what was gathered, give it its name, and state it in the manifest."""
    timed = any(Path(each).name == "time.npy" for each in manifest["files"])
    if found.timed != timed:
        has, other = ("has a", "no") if found.timed else ("has no", "one")
        raise UsageError(f"the log {has} time column, and {path} has {other}; they must be alike")
    for each, indexer in (("user", found.users), ("item", found.items)):
        Vocabulary(indexer.new).save(temporary / f"{each}s.parquet")
        np.save(temporary / f"{each}_hash.npy", hash_ids(indexer.new))
    with ShardWriter(temporary, timed=timed) as writer:
        for part in found.spool.ranges(len(found.users)):
            writer.add(part)
    shutil.rmtree(temporary / SPOOL)
    made = files_in(temporary)
    for each in made:
        _sync(temporary / each)
    shutil.rmtree(path / name, ignore_errors=True)  # of a run that was killed before the manifest
    os.replace(temporary, path / name)
    _sync(path)
    stated = found.stated()
    about = _added(manifest, stated, found)
    whole = {"folder": ".", "users": [0, manifest["users"]]}
    about["shards"] = [
        *manifest.get("shards", [whole]), {"folder": name, "users": [0, stated["users"]]},
    ]  # fmt: skip
    day = {"folder": name, **{key: stated[key] for key in ("events", "digests", "last_time")}}
    about["days"] = [*manifest.get("days", []), day]
    about["fingerprint"] = hash_arrays(path / name, str(manifest["fingerprint"]))
    files = manifest["files"] | {f"{name}/{each}": size for each, size in made.items()}
    seal(path, about, files)
    notes = [*stated["read"]["notes"], *_note_early(manifest, found)]
    return about | {"appended": day | {"read": stated["read"] | {"notes": notes}}}


def _added(
    manifest: Mapping[str, Any], stated: Mapping[str, Any], found: Gathered
) -> dict[str, Any]:
    """The manifest's counts and those of the day together."""
    about = dict(manifest)
    about |= {name: stated[name] for name in ("users", "items")}
    for name in ("events", "undo_events"):
        about[name] = manifest[name] + stated[name]
    about["events_per_behavior"] = {
        name: count + stated["events_per_behavior"][name]
        for name, count in manifest["events_per_behavior"].items()
    }
    about["sources"] = [*manifest["sources"], *stated["sources"]]
    before, own = manifest["read"], stated["read"]
    reasons = {**before["dropped"], **own["dropped"]}
    notes = [*own["notes"], *_note_early(manifest, found)]
    about["read"] = {
        "rows_read": before["rows_read"] + own["rows_read"],
        "dropped": {
            each: before["dropped"].get(each, 0) + own["dropped"].get(each, 0) for each in reasons
        },
        "notes": [*before["notes"], *(each for each in notes if each not in before["notes"])],
    }
    return about


def _note_early(manifest: Mapping[str, Any], found: Gathered) -> list[str]:
    parts = [manifest, *manifest.get("days", [])]
    times = [each["last_time"] for each in parts if each.get("last_time") is not None]
    if not times or found.first_time is None or found.first_time >= max(times):
        return []
    first = found.stream.found[0].path
    return [
        f"{first.name} has events from before the newest that were there; each stands at its time"
    ]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the data set against another process that appends; a kill lets it go."""
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{path}: another process appends to it; wait for its end") from error
        yield
    finally:
        os.close(folder)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
