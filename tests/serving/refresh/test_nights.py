"""Nights of a shop: promoted, kept, refused, cut off; what is served changes by one renaming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.serving.refresh.conftest import DAY, Frames, Nightly

from nmtr.cli import run
from nmtr.errors import DataError, NmtrError, UsageError
from nmtr.serving.bundle import open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.refresh import candidate, judging, looking, night
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.refresh import RefusedError
from nmtr.serving.requests import Request
from nmtr.serving.service import Service
from nmtr.training.run import Run

GMF = {"model": "nmtr-gmf", "set": ("embedding=8", "epochs=2", "calibrate=false")}


def outcomes(home: Home) -> list[str]:
    return [each["outcome"] for each in home.past()]


def test_the_first_night_is_served_and_pinned_and_later_ones_are_judged(
    home: Home, days: Frames, nightly: Nightly, midnight: int
) -> None:
    first = nightly(days(0, 40), 40, **GMF)
    assert (first.outcome, first.why) == ("promoted", "it is the first")
    assert home.served() == home.pinned() == first.bundle
    manifest = open_bundle(home.current).manifest
    assert manifest["trained_before"] == manifest["last_event"] + 1 - 5 * DAY
    assert set(manifest["events_per_day"]) == {"view", "cart", "buy"}

    second = nightly(days(40, 45), 45, **GMF)
    assert second.outcome == "promoted"
    assert second.verdict
    assert second.verdict.users >= 5
    assert set(second.verdict.means) == {"candidate", "incumbent", "anchor"}
    assert home.served() == second.bundle != home.pinned() == first.bundle
    opened = open_bundle(home.current)
    assert opened.settings.training.select == "none", "it started from the first"
    assert opened.manifest["trained_before"] == opened.manifest["last_event"] + 1 - 5 * DAY
    assert opened.manifest["trained_before"] > manifest["trained_before"] + 4.9 * DAY
    assert outcomes(home) == ["promoted", "pinned", "promoted"]
    assert not home.night.exists()
    assert nightly(None, 45, **GMF).outcome == "nothing new"
    assert nightly(days(0, 45), 45, **GMF).outcome == "nothing new", "a whole export again"
    assert len(list(home.log.glob("*"))) == 2


def test_what_training_did_not_see_masks_and_moves_when_it_is_served(
    home: Home, days: Frames, nightly: Nightly
) -> None:
    nightly(days(0, 40), 40, **GMF)
    bundle = open_bundle(home.current)
    known = bundle.trained_records()
    assert known
    service = Service.of(bundle)
    data, held = bundle.data, [each.lengths() for each in bundle.data.sets]
    active = (held[-1] > known.target.lengths()) & bundle.trained_users()
    user = data.users.ids[int(active.nonzero()[0][0])]
    idle = bundle.trained_users().copy()
    for all_of, seen in zip(held, known.sets, strict=True):
        idle &= all_of == seen.lengths()
    answer = service.recommend(Request(user, k=data.n_items))
    bought = set(service.user(user)["buy"])
    assert answer.basis == "fold-in"
    assert bought
    assert not bought & {each.item for each in answer.items}
    assert service.recommend(Request(data.users.ids[int(idle.nonzero()[0][0])])).basis == "model"


def test_a_worse_candidate_is_not_promoted(home: Home, days: Frames, nightly: Nightly) -> None:
    nightly(days(0, 40), 40, model="ials")
    before = home.served()
    kept = nightly(days(40, 45), 45, margin=0.01, **GMF)
    assert kept.outcome == "kept"
    assert "not ruled out" in kept.why
    assert home.served() == before
    few = nightly(days(45, 46), 46, least_users=10_000, model="ials")
    assert (few.outcome, "10,000 are needed" in few.why) == ("kept", True)
    assert outcomes(home)[2:] == ["kept", "kept"]
    assert len(list(home.bundles.iterdir())) == 1, "what was not promoted is not kept"


def test_a_poisoned_night_changes_nothing_until_it_is_accepted(
    home: Home, days: Frames, nightly: Nightly, log: pl.DataFrame
) -> None:
    nightly(days(0, 40), 40)
    before = home.served()
    night = days(40, 41)
    last = night["timestamp"][-1]
    bot = log.filter(pl.col("behavior") == "view").head(1500)
    bot = bot.with_columns(
        user_id=pl.lit("robot"), timestamp=last - pl.int_range(pl.len()).reverse() * 40_000
    )
    poisons = {
        "missing": night.filter(pl.col("behavior") != "cart"),
        "volume": pl.concat([
            night.filter(pl.col("behavior") != "view"),
            night.filter(pl.col("behavior") == "view").head(8),
        ]),
        "bots": pl.concat([night, bot]),
        "churn": night.with_columns(pl.col("item_id") + 10**6),
        "duplicates": pl.concat([night, night]),
        "ahead": pl.concat([night, night.head(9).with_columns(timestamp=last + 2 * DAY)]),
    }  # fmt: skip
    for check, events in poisons.items():
        with pytest.raises(RefusedError, match=f"  {check}: ") as refused:
            nightly(events, 41)
        assert "--accept" in str(refused.value)
    with pytest.raises(RefusedError, match="stale: the last event is 9"):
        nightly(night, 50)
    assert home.served() == before
    assert len(list(home.log.glob("*"))) == 1
    assert outcomes(home)[2:] == ["refused"] * 7
    assert "robot" not in home.history.read_text()

    nightly(poisons["bots"], 41, {"drop_bots": True})
    users = open_bundle(home.current).data.users.ids
    assert "robot" not in users
    again = bot.with_columns(pl.col("timestamp") + DAY).head(30)
    nightly(pl.concat([days(41, 42), again]), 42)
    assert "robot" not in open_bundle(home.current).data.users.ids, "for good"
    nightly(days(42, 43).filter(pl.col("behavior") != "cart"), 43,
            {"accept": frozenset(["missing"])})  # fmt: skip
    assert home.past()[-1]["accepted"] == ["missing"]


@pytest.mark.parametrize(
    "step", ["prepare", "execute", "write_bundle", "judge", "replace", "note", "clear"]
)
def test_a_refresh_cut_off_at_any_step_ends_as_if_it_had_not_been(
    step: str, home: Home, days: Frames, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly(days(0, 40), 40)
    first = home.served()
    places = {"prepare": looking, "execute": candidate, "write_bundle": candidate, "replace": os}
    where: Any = places.get(step, night)
    if step in ("note", "clear"):
        where = Home
    real = getattr(where, step)

    def dies(*given: Any, **named: Any) -> Any:
        moves = step == "replace" and Path(given[0]).name != judging.FILE
        begins = step == "clear" and not (home.night / "verdict.json").exists()
        if moves or begins:
            return real(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, step, dies)
        with pytest.raises(KeyboardInterrupt):
            nightly(days(40, 45), 45)
    assert home.served() in (first, *(each.name for each in home.bundles.iterdir()))
    open_bundle(home.current)
    found = nightly(days(40, 45), 45)
    assert found.outcome in ("promoted", "nothing new")
    assert outcomes(home) == ["promoted", "pinned", "promoted"]
    assert home.served() != first
    assert not home.night.exists()
    assert not list(home.path.glob(".night*"))


def written(midnight: int, day: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(midnight / 1000 + day * 86400))


def test_kill_9_in_training_costs_nothing_but_time(
    home: Home, days: Frames, nightly: Nightly, tmp_path: Path, midnight: int
) -> None:
    given: dict[str, Any] = {**GMF, "set": ("embedding=8", "epochs=10", "select=none",
                                            "calibrate=false")}  # fmt: skip
    days(0, 40).write_parquet(tmp_path / "log.parquet")
    words = [
        "refresh",
        str(home.path),
        "--events",
        str(tmp_path / "log.parquet"),
        "--behaviors",
        "view,cart,buy",
        "--window",
        "5",
        "--nice",
        "0",
        "--now",
        written(midnight, 40),
    ]
    words += [word for each in given["set"] for word in ("--set", each)]
    process = subprocess.Popen(
        [sys.executable, "-m", "nmtr", *words], stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (home.night / "run" / "config.toml").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert home.served() is None
    assert run(words) == 0
    killed = open_bundle(home.current).fingerprint
    other = Home(tmp_path / "other")
    words[1] = str(other.path)
    assert run(words) == 0
    assert open_bundle(other.current).fingerprint == killed
    assert outcomes(home) == outcomes(other) == ["promoted", "pinned"]


def test_what_came_while_a_refresh_was_cut_off_is_not_passed_over(
    home: Home, days: Frames, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    nightly(days(0, 40), 40)
    with monkeypatch.context() as patch:
        patch.setattr(candidate, "execute", dies)
        with pytest.raises(KeyboardInterrupt):
            nightly(days(40, 43), 43)
    nightly(days(43, 46), 46)  # the night after, with that day's file alone
    first, last = (home.past()[n]["events"] for n in (2, 3))
    assert outcomes(home) == ["promoted", "pinned", "promoted", "promoted"]
    assert (first, last) == (days(0, 43).height, days(0, 46).height)


def test_events_of_before_that_come_late_are_kept(
    home: Home, days: Frames, nightly: Nightly
) -> None:
    late = days(10, 11).head(50)
    rest = days(0, 40).join(late, on=days(0, 1).columns, how="anti", maintain_order="left")
    nightly(rest, 40)
    assert nightly(late, 40).outcome == "nothing new"
    nightly(days(40, 43), 43)
    assert home.past()[-1]["events"] == days(0, 43).unique().height
    with pytest.raises(RefusedError, match="late: "):
        nightly(days(0, 30).with_columns(pl.col("timestamp") + 1), 43)
    accepted = {"accept": frozenset(["late"])}
    assert nightly(days(0, 30).with_columns(pl.col("timestamp") + 1), 43, accepted).outcome in (
        "promoted",
        "kept",
    )


def test_a_bundle_that_was_put_there_is_not_followed_by_one_of_a_day(
    home: Home, days: Frames, nightly: Nightly, finished: Run
) -> None:
    home.path.mkdir()
    write_bundle(finished, home.current)
    with pytest.raises(DataError, match="the whole of it"):
        nightly(days(59, 60), 60)
    assert home.pinned() == home.served()
    assert not home.log.exists(), "nothing was taken in"
    assert nightly(days(0, 60), 60).outcome in ("promoted", "kept")


def test_other_options_begin_a_cut_off_night_anew(
    home: Home, days: Frames, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(candidate, "execute", dies)
        with pytest.raises(KeyboardInterrupt):
            nightly(days(0, 40), 40)
    nightly(days(0, 40), 40, window=6.0)
    manifest = open_bundle(home.current).manifest
    assert manifest["trained_before"] == manifest["last_event"] + 1 - 6 * DAY


def test_only_one_refresh_is_at_work(home: Home, days: Frames, nightly: Nightly) -> None:
    with home.working(), pytest.raises(NmtrError, match="another refresh"):
        nightly(days(0, 40), 40)


def test_a_roll_back_in_the_middle_of_a_refresh_is_not_undone_by_it(
    home: Home, days: Frames, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly(days(0, 40), 40)
    first = home.served()
    nightly(days(40, 43), 43)

    def judge(*given: Any) -> Any:
        assert home.roll_back() == first
        return judging.judge(*given)

    monkeypatch.setattr(night, "judge", judge)
    found = nightly(days(43, 46), 46)
    assert (found.outcome, "changed meanwhile" in found.why) == ("kept", True)
    assert home.served() == first


def test_what_cannot_be_refreshed_says_why(home: Home, days: Frames, nightly: Nightly) -> None:
    with pytest.raises(UsageError, match="no events: name files"):
        nightly(None, 40)
    with pytest.raises(DataError, match="'buy' events"):
        nightly(days(0, 40), 40, window=0.0001)
    with pytest.raises(DataError, match="time column"):
        nightly(days(0, 40).drop("timestamp"), 40)


def test_a_window_never_begins_before_the_end_of_what_is_judged(
    home: Home, days: Frames, nightly: Nightly
) -> None:
    """The window is made longer, or the refresh comes sooner, than the last one allows."""
    nightly(days(0, 40), 40, window=2.0)
    trained = open_bundle(home.current).manifest["trained_before"]
    nightly(days(40, 41), 41, window=8.0)
    assert home.past()[-1]["cut"] == trained


def test_a_night_that_failed_is_told_without_ids(
    home: Home, days: Frames, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError):
        nightly(days(0, 40), 40, window=0.0001)
    assert home.past() == [], "nothing has been refreshed yet"
    nightly(days(0, 40), 40)
    errors = (OSError(28, "No space left on device", "disk/x"), DataError("user alice is odd"),
              KeyError("alice"))  # fmt: skip
    for error in errors:

        def fails(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(looking, "prepare", fails)
            with pytest.raises(type(error)):
                nightly(days(40, 45), 45)
    told = home.past()[2:]
    assert [each["outcome"] for each in told] == ["failed"] * 3
    assert "No space left on device: 'disk/x'" in told[0]["why"]
    assert "alice" not in home.history.read_text()
    assert nightly(days(40, 45), 45).outcome == "promoted"


def test_what_a_cut_off_night_left_damaged_is_made_anew(
    home: Home, days: Frames, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly(days(0, 40), 40)

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for name in ("night.json", "data/manifest.json"):
        with monkeypatch.context() as patch:
            patch.setattr(night, "judge", dies)
            with pytest.raises(KeyboardInterrupt):
                nightly(days(40, 45), 45)
        (home.night / name).write_text("")
    assert nightly(None, 45).outcome == "promoted", "the events were kept before"
    assert outcomes(home) == ["promoted", "pinned", "promoted"]
    assert not home.night.exists()
