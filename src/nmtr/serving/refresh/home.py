"""A refresh's home: one folder with the bundles, what is served, and what happened.

current.nmtr     a link to the bundle that is served
anchor.nmtr      a link to the bundle that no later one may fall behind
bundles/         those that were promoted, the newest last
log/             events that came from files
bots.parquet     users who were found to be none
refresh.toml     the options
history.jsonl    a line for each refresh, also one that failed, roll-back and pin; no ids
night/           the refresh under way; gone when it is done
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nmtr.errors import DamagedError, NmtrError, UsageError
from nmtr.files import replace_file, write_text

PROMOTED, KEPT, REFUSED, ROLLED_BACK = "promoted", "kept", "refused", "rolled back"
FAILED = "failed"


class Home:
    """The folder, and what may be done with it by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current, self.anchor = path / "current.nmtr", path / "anchor.nmtr"
        self.bundles, self.log, self.night = path / "bundles", path / "log", path / "night"
        self.options, self.history = path / "refresh.toml", path / "history.jsonl"
        self.bots = path / "bots.parquet"

    def expect(self) -> None:
        """Raise UsageError where there is no home."""
        if not self.options.exists():
            raise UsageError(
                f"{self.path} has no refresh.toml; begin with `nmtr refresh {self.path} "
                "--behaviors view,cart,buy --events FILE` (or --data FOLDER of the service's store)"
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Be the one refresh at work; NmtrError where there is another. A kill lets go of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".working").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise NmtrError(f"{self.path}: another refresh is at work there") from None
            self.tidy()
            yield

    def tidy(self) -> None:
        """Delete what a kill left half-written, which may hold ids; within `working`.

        Nobody else writes these now, but for what is changed by `switching`.
        """
        with self.switching():
            for folder in (self.path, self.bundles, self.log, self.night):
                for each in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
                    _remove(each)

    @contextmanager
    def switching(self) -> Iterator[None]:
        """Change what is served, or the history: held for a moment, even beside a refresh."""
        with (self.path / ".switching").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def adopt(self) -> None:
        """Give a bundle that was put at current.nmtr, or linked there, a place among the others."""
        ours = self.current.resolve().parent == self.bundles.resolve()
        if self.current.exists() and not ours:
            name = f"{_stamp()}-adopted.nmtr"
            self.bundles.mkdir(exist_ok=True)
            with self.switching():
                with replace_file(self.bundles / name) as temporary:
                    shutil.copyfile(self.current, temporary)
                self.serve(name, PROMOTED, why="it was there before the first refresh")

    def frames(self) -> list[Path]:
        """The files that hold users' ids, beside the bundles."""
        found = sorted(self.log.glob("*.parquet"))
        return [*found, self.bots] if self.bots.exists() else found

    def served(self) -> str | None:
        """The name of the bundle that is served."""
        return _target(self.current)

    def pinned(self) -> str | None:
        """The name of the anchor."""
        return _target(self.anchor)

    def serve(self, name: str, outcome: str, **about: Any) -> None:
        """Serve a bundle, within `switching`; once its line is in the history this is done."""
        _link(self.current, name)
        self.note({"outcome": outcome, "bundle": name, **about})

    def pin(self, name: str | None = None) -> str:
        """Make a bundle the anchor, by default the one that is served; its name."""
        with self.switching():
            name = name or self.served()
            if name is None:
                raise UsageError(f"{self.path} serves no bundle yet that could be the anchor")
            _link(self.anchor, name)
            self.note({"outcome": "pinned", "bundle": name})
        return name

    def roll_back(self) -> str:
        """Serve the bundle that was promoted before the one that is served; its name."""
        with self.switching():
            names = [each for each in self._promoted() if (self.bundles / each).exists()]
            now = self.served()
            before = names[: names.index(now)] if now in names else names
            if not before:
                raise NmtrError(
                    f"{self.path} keeps no bundle from before the one that is served; `keep` in "
                    "refresh.toml says how many it should"
                )
            self.serve(before[-1], ROLLED_BACK)
        return before[-1]

    def past(self) -> list[dict[str, Any]]:
        """The lines of the history, oldest first; DamagedError where one cannot be read."""
        if not self.history.exists():
            return []
        try:
            lines = self.history.read_text(encoding="utf-8").splitlines()
            return [dict(json.loads(each)) for each in lines]
        except (ValueError, TypeError) as error:
            raise DamagedError(
                f"{self.history} cannot be read ({error}); mend or remove the line"
            ) from error

    def note(self, line: Mapping[str, Any]) -> None:
        """Add a line to the history, within `switching`."""
        lines = [*self.past(), {"at": _stamp(), **line}]
        write_text(self.history, "".join(json.dumps(each) + "\n" for each in lines))

    def checked(self) -> tuple[int, int] | None:
        """The last event of a log that passed the checks, and how many events it had."""
        found = [each for each in self.past() if each.get("checked_to")]
        return (int(found[-1]["checked_to"]), int(found[-1]["events"])) if found else None

    def checked_to(self) -> int | None:
        """The last event of a log that passed the checks; None before the first."""
        found = self.checked()
        return found[0] if found else None

    def prune(self, keep: int) -> None:
        """Delete all but the newest bundles, what is served, and the anchor."""
        kept = {self.served(), self.pinned()}
        names = sorted(each.name for each in self.bundles.glob("*.nmtr"))
        for name in names[:-keep]:
            if name not in kept:
                (self.bundles / name).unlink()

    def clear(self) -> None:
        """Do away with the refresh under way."""
        if self.night.exists():
            gone = self.path / f".night.{uuid.uuid4().hex[:8]}.old"
            os.replace(self.night, gone)
        for each in self.path.glob(".night.*.old"):
            shutil.rmtree(each, ignore_errors=True)

    def _promoted(self) -> list[str]:
        """Bundles in the order of their promotion, less those from which it was rolled back."""
        names: list[str] = []
        for each in self.past():
            if each["outcome"] == PROMOTED:
                names.append(each["bundle"])
            elif each["outcome"] == ROLLED_BACK and each["bundle"] in names:
                del names[names.index(each["bundle"]) + 1 :]
        return names


def _link(link: Path, name: str) -> None:
    """Point a link at a bundle, by one renaming."""
    temporary = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.symlink_to(Path("bundles") / name)
        os.replace(temporary, link)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _target(link: Path) -> str | None:
    return Path(os.readlink(link)).name if link.is_symlink() else None


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
