"""What a prepared data set states of itself: its manifest, and the files that it answers for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmtr import __version__
from nmtr.errors import DamagedError, UsageError
from nmtr.files import sha256, write_text

FORMAT = "nmtr-prepared"
SCHEMA = 1  # of one shard, in the folder itself
SHARDED = 2


def read_manifest(path: Path) -> dict[str, Any]:
    """What a prepared data set states of itself, unaltered; raises as load does."""
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
    if manifest.get("schema") not in (SCHEMA, SHARDED):
        raise DamagedError(
            f"{path}/manifest.json has schema {manifest.get('schema')}, this nmtr {__version__} "
            f"reads {SCHEMA} and {SHARDED}; prepare it again or use the nmtr that wrote it"
        )
    if manifest.get("sha256") != _checksum(manifest):
        raise DamagedError(
            f"{path}/manifest.json was altered: its sha256 is not the one it states; "
            "prepare it again"
        )
    return manifest


def check_new(path: Path, *, force: bool) -> None:
    """Raise UsageError unless `path` is free, or a prepared data set that `force` may replace."""
    if path.exists() and not (force and _is_prepared(path)):
        advice = "add --force to replace it" if _is_prepared(path) else "name another folder"
        raise UsageError(f"{path} exists already; {advice}")


def files_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The size and sha256 of every file below a folder, by its path from there."""
    return {
        str(each.relative_to(folder)): {"bytes": each.stat().st_size, "sha256": sha256(each)}
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


def seal(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    """Write the manifest, which says what the folder holds, whole or not at all."""
    schema = SHARDED if "shards" in manifest else SCHEMA
    about = {"format": FORMAT, "schema": schema, "nmtr": __version__}
    stated = {name: value for name, value in manifest.items() if name != "sha256"}
    stated |= about | {"files": dict(files)}
    stated["sha256"] = _checksum(stated)
    write_text(folder / "manifest.json", json.dumps(stated, indent=2) + "\n")


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
