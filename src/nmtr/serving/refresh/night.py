"""One refresh, from new events to a bundle that is served or a reason why not.

Each step leaves a file in the home's night/, by which a refresh that was killed goes on:
night.json and data/ once the events have passed the checks, run/ while it trains, candidate.nmtr,
verdict.json. What is served changes by one renaming after all of them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.split import split
from nmtr.errors import DataError, NmtrError
from nmtr.files import replace_file, write_text
from nmtr.serving.bundle import open_bundle
from nmtr.serving.refresh.candidate import FILE, Maker
from nmtr.serving.refresh.checks import DAY, check, days_of, suspects, written
from nmtr.serving.refresh.gathering import Gathered, gather, keep
from nmtr.serving.refresh.home import KEPT, PROMOTED, Home
from nmtr.serving.refresh.judging import Verdict, judge, values_of
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.wish import NOTHING, Outcome, RefusedError, Wish
from nmtr.training.step import Report

if TYPE_CHECKING:
    from nmtr.serving.store import Store

Say = Callable[[str], None]


class Night:
    """The refresh under way in a home that is held by this process."""

    def __init__(
        self, home: Home, options: Options, store: Store | None, *, say: Say, report: Report | None
    ) -> None:
        self.home, self.options, self.store = home, options, store
        self.say, self.report = say, report
        self.path = home.night
        self._bots: pl.DataFrame | None = None  # user_id, where there are new ones

    def run(self, wish: Wish) -> Outcome:
        """Do what is left to be done. Raises RefusedError, or what the steps raise."""
        about = self._resumed(wish) or self._begin(wish)
        if about is None:
            return Outcome(NOTHING, "no event is later than those of the last refresh",
                           self.home.served())  # fmt: skip
        data = load(self.path / "data")
        verdict = self._judged(data, about)
        return self._end(about, verdict)

    # the events

    def look(self, wish: Wish) -> tuple[Gathered, int] | None:
        """The events, checked, and the moment that the window begins; None where none is new."""
        now = int(time.time() * 1000) if wish.now is None else wish.now
        found = gather(self.home, self.options, self.store, wish.files, now=now)
        known = self.home.checked_to()
        found = self._without_bots(found, wish, known)
        end = days_of(found.frame, known).end
        stale = now - end > self.options.stale * DAY
        if known is not None and end <= known and not stale:
            return None
        findings, notes = check(found, self.options, checked_to=known, now=now)
        for note in notes:
            self.say(f"note: {note}")
        for each in findings:
            if each.check in wish.accept:
                self.say(f"accepted, {each}")
        left = [each for each in findings if each.check not in wish.accept]
        if left:
            names = ",".join(dict.fromkeys(each.check for each in left))
            raise RefusedError(
                "these events are not learned from, and what is served stays:\n"
                + "\n".join(f"  {each}" for each in left)
                + f"\nIf it is right as it is: --accept {names}"
            )
        if known is not None and end <= known:
            return None
        return found, self._cut(end)

    def _begin(self, wish: Wish) -> dict[str, Any] | None:
        self.home.clear()
        looked = self.look(wish)
        if looked is None:
            return None
        found, cut = looked
        started = datetime.now(UTC)
        name = f"{started:%Y%m%dT%H%M%S%f}"
        if found.fresh is not None and found.fresh.height:
            keep(self.home, found.fresh, name=name)
        if self._bots is not None:
            with replace_file(self.home.bots) as temporary:
                self._bots.write_parquet(temporary)
        frame = found.frame
        target = frame.filter((pl.col("behavior") == self.options.behaviors[-1]) & ~pl.col("undo"))
        if not (target["timestamp"] < cut).any() or not (target["timestamp"] >= cut).any():
            raise DataError(
                f"the window from {written(cut)} on holds {(target['timestamp'] >= cut).sum():,} "
                f"'{self.options.behaviors[-1]}' events, and there are "
                f"{(target['timestamp'] < cut).sum():,} before it; both are needed: set --window"
            )
        data = prepare(
            found.log(), behaviors=self.options.behaviors, holdout=f"time:{cut}",
            repurchase=self.options.repurchase,
        )  # fmt: skip
        data.save(self.path / "data")
        about = {
            "night": name,
            "options": json.loads(json.dumps(asdict(self.options))),
            "cold": wish.cold,
            "incumbent": self.home.served(),
            "cut": cut,
            "checked_to": int(frame["timestamp"].max()),  # type: ignore[arg-type]  # never empty
            "events": frame.height,
            "accepted": sorted(wish.accept),
        }
        write_text(self.path / "night.json", json.dumps(about))
        return about

    def _resumed(self, wish: Wish) -> dict[str, Any] | None:
        """What a killed refresh had come to, if it was asked for the same."""
        file = self.path / "night.json"
        if not file.exists():
            return None
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        same = about["options"] == json.loads(json.dumps(asdict(self.options)))
        if not same or about["cold"] != wish.cold:
            self.say("the refresh that was under way had other options: beginning anew")
            return None
        self.say(f"going on with the refresh of {about['night']}")
        return about

    def _without_bots(self, found: Gathered, wish: Wish, known: int | None) -> Gathered:
        """The events less those of users who were left out before, or are to be from now on."""
        bots = self.home.bots
        gone = pl.read_parquet(bots) if bots.exists() else None
        frame = found.frame if gone is None else _less(found.frame, gone)
        if wish.drop_bots:
            new = suspects(days_of(frame, known), self.options).select("user_id")
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

    # the judgement

    def _judged(self, data: Interactions, about: dict[str, Any]) -> Verdict:
        file = self.path / "verdict.json"
        if file.exists():
            return Verdict(**json.loads(file.read_text(encoding="utf-8")))
        start = self.home.bundles / about["incumbent"] if about["incumbent"] else None
        candidate = Maker(
            self.path, self.options, None if about["cold"] else start, self.say, self.report
        ).make()
        names = {"incumbent": about["incumbent"], "anchor": self.home.pinned()}
        others = {
            kind: open_bundle(self.home.bundles / name) for kind, name in names.items() if name
        }
        if not others:
            verdict = Verdict(True, "it is the first", 0, self.options.metric, {}, {})
        else:
            evaluation = split(data, "time", fold="test").evaluation
            self.say(f"judging by {len(evaluation.users):,} users since {written(about['cut'])}")
            found = {}
            known = {}
            for kind, bundle in {**others, "candidate": candidate}.items():
                if bundle.fingerprint not in known:
                    known[bundle.fingerprint] = values_of(
                        bundle, data, evaluation, self.options.metric
                    )
                found[kind] = known[bundle.fingerprint]
            verdict = judge(found.pop("candidate"), found, self.options)
        write_text(file, json.dumps(asdict(verdict)))
        return verdict

    def _end(self, about: dict[str, Any], verdict: Verdict) -> Outcome:
        """Serve the candidate, or leave all as it is; then do away with the night."""
        home, candidate = self.home, self.path / FILE
        facts = {each: about[each] for each in ("night", "cut", "checked_to", "events", "accepted")}
        facts |= {"users": verdict.users, "means": verdict.means, "metric": verdict.metric}
        promote, why = verdict.promote, verdict.why
        with home.switching():
            name = f"{about['night']}.nmtr"
            line = next((each for each in home.past() if each.get("night") == about["night"]), None)
            if line:  # it was cut off after that
                promote, why = line["outcome"] == PROMOTED, line["why"]
            elif home.served() not in (about["incumbent"], name):
                promote, why = False, "what is served was changed meanwhile, so it was not judged"
            elif not promote and self._must():
                promote, why = True, f"the deadline of an erasure has passed ({why})"
            if promote and not line:
                self._forget(candidate)
                home.bundles.mkdir(exist_ok=True)
                if candidate.exists():
                    os.replace(candidate, home.bundles / name)
                home.serve(name, PROMOTED, why=why, **facts)
            elif not line:
                home.note({"outcome": KEPT, "bundle": home.served(), "why": why, **facts})
        if promote and home.pinned() is None:
            home.pin(name)
        home.clear()
        home.prune(self.options.keep)
        return Outcome(PROMOTED if promote else KEPT, why, home.served(), verdict)

    def _forget(self, candidate: Path) -> None:
        """Take out of a candidate who was erased while it was made."""
        if self.store is not None and candidate.exists():
            from nmtr.serving.refresh.purging import purge_bundle

            purge_bundle(candidate, self.store)

    def _must(self) -> bool:
        """Whether what is served may be served no longer."""
        if self.store is None or not (served := self.home.served()):
            return False
        from nmtr.serving.refresh.purging import overdue

        return overdue(open_bundle(self.home.bundles / served))


def _less(frame: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    return frame.join(_typed(users, frame), on="user_id", how="anti", maintain_order="left")


def _typed(users: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    return users.select(pl.col("user_id").cast(like.schema["user_id"], strict=False))
