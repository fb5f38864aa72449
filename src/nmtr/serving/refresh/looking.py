"""A night's events: read, checked, and made a data set whose hold-out is the window."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.errors import DataError, NmtrError
from nmtr.files import replace_file
from nmtr.serving.bundle import open_bundle
from nmtr.serving.refresh.attributes import described
from nmtr.serving.refresh.checks import DAY, check, days_of, suspects, written
from nmtr.serving.refresh.gathering import Gathered, gather, keep
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.wish import RefusedError, Wish

if TYPE_CHECKING:
    from nmtr.serving.store import Store

Say = Callable[[str], None]
IDLE = ("stale", "late")  # what is looked at where no event is later than the last refresh


class Look:
    """One look at the events of a home's next night; `take` alone changes anything."""

    def __init__(self, home: Home, options: Options, store: Store | None, *, say: Say) -> None:
        self.home, self.options, self.store, self.say = home, options, store, say
        self.known = home.checked_to()
        self._found: Gathered | None = None
        self._bots: pl.DataFrame | None = None  # user_id, where there are new ones

    def look(self, wish: Wish) -> tuple[Gathered, int] | None:
        """The events, checked, and the moment that the window begins; None where none is new."""
        now = int(time.time() * 1000) if wish.now is None else wish.now
        found = gather(self.home, self.options, self.store, wish.files, now=now)
        if lost := {why: count for why, count in found.dropped.items() if count}:
            reasons = ", ".join(f"{count:,} {why}" for why, count in lost.items())
            self.say(f"note: rows of the files that were left out: {reasons}")
        found = self._found = self._without_bots(found, wish)
        self._expect_whole(found.frame)
        end = int(found.frame["timestamp"].max())  # type: ignore[arg-type]  # never empty
        findings, notes = check(found, self.options, before=self.home.checked(), now=now)
        idle = self.known is not None and end <= self.known  # the last day was looked at before
        if idle:
            findings, notes = [each for each in findings if each.check in IDLE], []
        for note in notes:
            self.say(f"note: {note}")
        taken = [each for each in findings if each.check in wish.accept]
        for each in taken:
            self.say(f"accepted, {each}")
        if left := [each for each in findings if each not in taken]:
            names = ",".join(dict.fromkeys(each.check for each in left))
            raise RefusedError(
                "these events are not learned from, and what is served stays:\n"
                + "\n".join(f"  {each}" for each in left)
                + f"\nIf it is right as it is: --accept {names}"
            )
        if idle and not any(each.check == "late" for each in taken):
            return None
        return found, self._cut(end)

    def _expect_whole(self, frame: pl.DataFrame) -> None:
        """Raise DataError where a bundle that was put there learned from much that is not here."""
        served = self.home.served()
        if self.known is not None or served is None:
            return
        bundle = open_bundle(self.home.bundles / served)
        records = sum(each.nnz for each in bundle.data.sets)
        if frame.height < records / 2:
            raise DataError(
                f"the bundle that is served has {records:,} records, and the log {frame.height:,} "
                "events: a refresh trains on the log alone, so give the first one the whole of it"
            )

    def back(self, wish: Wish) -> tuple[Gathered, int]:
        """The events that passed before, and the window, where none of tonight are to be had."""
        now = int(time.time() * 1000) if wish.now is None else wish.now
        found = gather(self.home, self.options, self.store, (), now=now)
        found = self._without_bots(found, Wish())
        if self.known is not None:
            passed = found.frame.filter(pl.col("timestamp") <= self.known)
            found = replace(found, frame=passed)
        return found, self._cut(int(found.frame["timestamp"].max()))  # type: ignore[arg-type]

    def take(self, name: str) -> int:
        """Keep what files brought, and who was found to be a bot; how many events were new."""
        fresh = self._found.fresh if self._found else None
        if fresh is not None and fresh.height:
            keep(self.home, fresh, name=name)
        if self._bots is not None:
            with replace_file(self.home.bots) as temporary:
                self._bots.write_parquet(temporary)
        return 0 if fresh is None else fresh.height

    def prepared(self, found: Gathered, cut: int) -> Interactions:
        """The events as a data set whose hold-out is the window, with attributes."""
        target = self.options.behaviors[-1]
        bought = (pl.col("behavior") == target) & ~pl.col("undo")
        times = found.frame.filter(bought)["timestamp"]
        if not (times < cut).any() or not (times >= cut).any():
            raise DataError(
                f"the window from {written(cut)} on holds {(times >= cut).sum():,} '{target}' "
                f"events, and there are {(times < cut).sum():,} before it; both are needed: set "
                "--window"
            )
        data = prepare(
            found.log(), behaviors=self.options.behaviors, holdout=f"time:{cut}",
            repurchase=self.options.repurchase,
        )  # fmt: skip
        served = self.home.served()
        bundle = open_bundle(self.home.bundles / served) if served else None
        return described(data, self.options, bundle, say=self.say)

    def _without_bots(self, found: Gathered, wish: Wish) -> Gathered:
        """The events less those of users who were left out before, or are to be from now on."""
        bots = self.home.bots
        gone = pl.read_parquet(bots) if bots.exists() else None
        frame = found.frame if gone is None else _less(found.frame, gone)
        if wish.drop_bots:
            new = suspects(days_of(frame, self.known), self.options).select("user_id")
            self.say(f"{new.height:,} users are left out as bots")
            frame = _less(frame, new)
            if new.height:
                self._bots = new if gone is None else pl.concat([_typed(gone, new), new])
        return replace(found, frame=frame)

    def _cut(self, end: int) -> int:
        """When the window begins: after all that the bundles to be judged learned from."""
        cut = end + 1 - int(self.options.window * DAY)
        for name in {self.home.served(), self.home.pinned()} - {None}:
            manifest = open_bundle(self.home.bundles / str(name)).manifest
            before, last = manifest.get("trained_before"), manifest["last_event"]
            if last is None:
                raise NmtrError(
                    f"{name} was made of a log without times, so no window is later than what it "
                    "learned; begin another home"
                )
            cut = max(cut, last + 1 if before is None else before)
        return cut


def _less(frame: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    return frame.join(_typed(users, frame), on="user_id", how="anti", maintain_order="left")


def _typed(users: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    return users.select(pl.col("user_id").cast(like.schema["user_id"], strict=False))
