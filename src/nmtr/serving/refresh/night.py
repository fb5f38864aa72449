"""One refresh, from new events to a bundle that is served or a reason why not.

Each step leaves a file in the home's night/, by which a refresh that was killed goes on:
night.json and data/ once the events have passed the checks, run/ while it trains, candidate.nmtr,
verdict.json. What is served changes by one renaming after all of them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmtr.data.interactions import Interactions, load
from nmtr.data.split import Evaluation, split
from nmtr.errors import DamagedError
from nmtr.files import write_text
from nmtr.serving.bundle import Bundle, open_bundle
from nmtr.serving.refresh.candidate import Maker
from nmtr.serving.refresh.checks import written
from nmtr.serving.refresh.home import KEPT, PROMOTED, Home
from nmtr.serving.refresh.judging import Values, Verdict, judge, values_of
from nmtr.serving.refresh.looking import Look, Say
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.retiring import retirement, settled
from nmtr.serving.refresh.wish import NOTHING, Outcome, RefusedError, Wish
from nmtr.training.step import Report

if TYPE_CHECKING:
    from nmtr.serving.store import Store


class Night:
    """The refresh under way in a home that is held by this process."""

    def __init__(
        self, home: Home, options: Options, store: Store | None, *, say: Say, report: Report | None
    ) -> None:
        self.home, self.options, self.store = home, options, store
        self.say, self.report = say, report
        self.path = home.night

    def run(self, wish: Wish) -> Outcome:
        """Finish the refresh that was cut off, if any, and do one of what came since.

        Raises RefusedError, or what the steps raise.
        """
        last = None
        if about := self._resumed(wish):
            try:
                last = self._finish(about)
            except DamagedError as error:
                self.say(f"what a refresh that was cut off left cannot be read: {error}")
                self.say("beginning anew")
        if about := self._begin(wish):
            return self._finish(about)
        return last or Outcome(
            NOTHING, "no event is later than those of the last refresh", self.home.served()
        )

    def _finish(self, about: dict[str, Any]) -> Outcome:
        verdict = self._judged(load(self.path / "data"), about)
        outcome = self._end(about, verdict)
        if about["refused"]:
            raise RefusedError(
                f"{about['refused']}\nThe events before were trained on, since what was served had "
                f"to go for an erasure; {outcome.outcome}: {outcome.why}"
            )
        return outcome

    def _begin(self, wish: Wish) -> dict[str, Any] | None:
        self.home.clear()
        owed, refused = retirement(self.home, self.options), None
        look = Look(self.home, self.options, self.store, say=self.say)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        try:
            looked = look.look(wish)
        except RefusedError as error:
            if not owed.must:
                raise
            looked, refused = None, str(error)
        data = look.prepared(*looked) if looked else None
        if not refused and (new := look.take(name)) and not looked:
            self.say(f"{new:,} events of before are kept, and count when a later one comes")
        if looked is None and owed.must:
            looked = look.back(wish)
            data = look.prepared(*looked)
        if looked is None or data is None:
            return None
        if owed.cold and not wish.cold:
            self.say(f"what is served has to go by {owed.by}, for an erasure")
        data.save(self.path / "data")
        found, cut = looked
        about = {
            "night": name,
            "options": json.loads(json.dumps(asdict(self.options))),
            "asked_cold": wish.cold,
            "cold": wish.cold or owed.cold,
            "must": owed.by if owed.must else "",
            "refused": refused,
            "incumbent": self.home.served(),
            "cut": cut,
            "checked_to": int(found.frame["timestamp"].max()),  # type: ignore[arg-type]  # not empty
            "events": found.frame.height,
            "accepted": sorted(wish.accept),
        }
        write_text(self.path / "night.json", json.dumps(about))
        return about

    def _resumed(self, wish: Wish) -> dict[str, Any] | None:
        """What a killed refresh had come to, if it was asked for the same."""
        file = self.path / "night.json"
        if not file.exists() or not (self.path / "data").exists():
            return None
        try:
            about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            self.say(f"{file} of a refresh that was cut off cannot be read: beginning anew")
            return None
        same = about["options"] == json.loads(json.dumps(asdict(self.options)))
        if not same or about["asked_cold"] != wish.cold:
            self.say("the refresh that was under way had other options: beginning anew")
            return None
        self.say(f"going on with the refresh of {about['night']}")
        return about

    # the judgement

    def _judged(self, data: Interactions, about: dict[str, Any]) -> Verdict:
        file = self.path / "verdict.json"
        if file.exists():
            return Verdict(**json.loads(file.read_text(encoding="utf-8")))
        start = self.home.bundles / about["incumbent"] if about["incumbent"] else None
        maker = Maker(
            self.path, self.options, None if about["cold"] else start, self.say, self.report
        )
        candidate = maker.make()
        names = {"incumbent": about["incumbent"], "anchor": self.home.pinned()}
        others = {
            kind: open_bundle(self.home.bundles / name) for kind, name in names.items() if name
        }
        if not others:
            verdict = Verdict(True, "it is the first", 0, self.options.metric, {}, {})
        else:
            evaluation = split(data, "time", fold="test").evaluation
            self.say(f"judging by {len(evaluation.users):,} users since {written(about['cut'])}")
            found = self._values({**others, "candidate": candidate}, data, evaluation)
            ours = found.pop("candidate")
            verdict = judge(ours, found, self.options)
            if about["must"] and not verdict.promote:
                plain = maker.plain()
                popular = self._values({"popular": plain.make()}, data, evaluation)["popular"]
                verdict = settled(verdict, ours, popular, by=about["must"], file=plain.file)
        write_text(file, json.dumps(asdict(verdict)))
        return verdict

    def _values(
        self, bundles: dict[str, Bundle], data: Interactions, evaluation: Evaluation
    ) -> dict[str, Values]:
        """The metric of each user, by bundle; equal bundles are asked once."""
        known: dict[str, Values] = {}
        for each in bundles.values():
            if each.fingerprint not in known:
                known[each.fingerprint] = values_of(each, data, evaluation, self.options.metric)
        return {kind: known[each.fingerprint] for kind, each in bundles.items()}

    def _end(self, about: dict[str, Any], verdict: Verdict) -> Outcome:
        """Serve the candidate, or leave all as it is; then do away with the night."""
        home, candidate = self.home, self.path / verdict.file
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
