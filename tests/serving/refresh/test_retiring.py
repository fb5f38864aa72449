"""What was trained with an erased person goes in time, and what comes was not made of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serving.refresh.conftest import Frames, Nightly

from nmtr.cli import run
from nmtr.serving.bundle import open_bundle
from nmtr.serving.refresh import retiring
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.judging import Verdict
from nmtr.serving.refresh.refresh import RefusedError
from nmtr.serving.refresh.retiring import OVERDUE, deadline, settled
from nmtr.serving.store import Store

GMF: dict[str, Any] = {"model": "nmtr-gmf", "set": ("embedding=8", "epochs=2", "calibrate=false")}
STRICT: dict[str, Any] = {"least_users": 10_000}  # nothing is ever promoted by the verdict
Later = Callable[[float], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the clock by days."""
    real = time.time

    def move(days: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + days * 86_400)

    return move


@pytest.fixture
def store(home: Home, tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "store.db", retired=30)


def erased(store: Store, days: Frames) -> int:
    """Someone of the first days is erased; the deadline, in milliseconds."""
    someone = days(0, 40)["user_id"][0]
    return store.erase(someone).deadline // 1000


def test_only_a_training_from_nothing_ends_what_was_learned_from_them(
    home: Home, days: Frames, nightly: Nightly, store: Store, later: Later
) -> None:
    nightly(days(0, 40), 40, {"store": store}, **GMF)
    by = erased(store, days)
    warm = nightly(days(40, 43), 43, {"store": store}, **GMF)
    assert warm.outcome == "promoted"
    bundle = open_bundle(home.current)
    assert bundle.settings.training.select == "none", "it started from what was served"
    assert bundle.manifest[OVERDUE] == by, "and so learned from who was in that"

    later(22.9)
    nightly(days(43, 46), 46, {"store": store}, **GMF)
    assert deadline(home.current) == by
    later(23.1)
    cold = nightly(days(46, 49), 49, {"store": store}, **GMF)
    assert cold.verdict
    assert cold.verdict.users >= 5, "judged as any other"
    assert open_bundle(home.current).settings.training.select != "none"
    assert deadline(home.current) is None
    nightly(days(49, 52), 52, {"store": store}, **GMF)
    assert open_bundle(home.current).settings.training.select == "none", "warm again"
    assert deadline(home.current) is None


def test_at_the_deadline_the_candidate_is_served_whatever_the_verdict(
    home: Home, days: Frames, nightly: Nightly, store: Store, later: Later
) -> None:
    nightly(days(0, 40), 40, {"store": store})
    nightly(days(40, 43), 43, {"store": store})
    first, second = sorted(home.bundles.iterdir())
    erased(store, days)
    later(27.9)
    kept = nightly(days(43, 46), 46, {"store": store}, **STRICT)
    assert (kept.outcome, kept.bundle) == ("kept", second.name)
    assert first.exists()
    later(28.1)
    found = nightly(days(46, 49), 49, {"store": store}, **STRICT)
    assert found.outcome == "promoted"
    assert "10,000 are needed" in found.why, "what the verdict was is said"
    assert "for an erasure" in found.why
    assert {each.name for each in home.bundles.iterdir()} == {found.bundle}
    assert home.pinned() == found.bundle


@pytest.mark.parametrize("night", ["poisoned", "nothing new"])
def test_events_that_are_not_believed_are_no_reason_to_stay(
    night: str, home: Home, days: Frames, nightly: Nightly, store: Store, later: Later
) -> None:
    nightly(days(0, 40), 40, {"store": store})
    first = home.served()
    erased(store, days)
    later(29)
    if night == "poisoned":
        poison = days(40, 41).filter(pl.col("behavior") != "cart")
        with pytest.raises(RefusedError, match=r"missing: (?s:.*); promoted: "):
            nightly(poison, 41, {"store": store})
        told = [each["outcome"] for each in home.past()]
        assert told[2:] == ["promoted", "refused", "pinned"]
        assert len(list(home.log.iterdir())) == 1, "they are not taken in"
    else:
        nightly(days(0, 40), 40, {"store": store})
    assert home.served() != first
    assert deadline(home.current) is None
    assert open_bundle(home.current).manifest["last_event"] == days(0, 40)["timestamp"].max()
    checked = home.checked()
    assert checked
    assert checked[0] == days(0, 40)["timestamp"].max(), "and what was refused is looked at again"


def test_what_is_surely_behind_the_popular_is_not_served_even_then() -> None:
    verdict = Verdict(False, "it lost", 200, "ndcg@100", {}, {})
    popular = np.random.default_rng(0).random(200)
    settle = {"by": "2026-02-01", "file": "popularity.nmtr"}
    behind = settled(verdict, popular * 0.5, popular, **settle)
    assert (behind.promote, behind.file) == (True, "popularity.nmtr")
    assert "it lost" in behind.why
    for ours in (popular, popular * 1.1, np.random.default_rng(1).random(200), popular[:1]):
        other = settled(verdict, ours, popular[: len(ours)], **settle)
        assert (other.promote, other.file) == (True, "candidate.nmtr")


def test_the_popular_items_are_served_where_the_candidate_is_behind_them(
    home: Home, days: Frames, nightly: Nightly, store: Store, later: Later,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    nightly(days(0, 40), 40, {"store": store}, **GMF)
    erased(store, days)
    later(29)
    seen: list[float] = []

    def behind(verdict: Verdict, ours: Any, popular: Any, **given: Any) -> Verdict:
        seen.append(float(popular.mean()))
        return settled(verdict, 0 * ours, popular, **given)

    monkeypatch.setattr("nmtr.serving.refresh.night.settled", behind)
    found = nightly(days(40, 46), 46, {"store": store}, **GMF, **STRICT)
    assert (found.outcome, seen[0] > 0) == ("promoted", True)
    bundle = open_bundle(home.current)
    assert (bundle.settings.model, deadline(home.current)) == ("popularity", None)
    monkeypatch.undo()
    after = nightly(days(46, 52), 52, {"store": store}, **GMF)
    assert open_bundle(home.bundles / str(after.bundle)).settings.model == "nmtr-gmf"


def test_what_is_late_is_said_and_fails(
    home: Home, days: Frames, nightly: Nightly, store: Store, later: Later, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "nice", lambda _: 0)
    nightly(days(0, 40), 40, {"store": store})
    erased(store, days)
    store.close()
    purge = ["refresh", str(home.path), "--behaviors", "view,cart,buy", "--data",
             str(tmp_path / "data"), "--purge"]  # fmt: skip
    assert run(purge) == 0
    assert "in 2 files" in capsys.readouterr().out
    home.options.write_text('behaviors = ["view", "cart", "buy"]\n')
    assert run(["refresh", str(home.path), "--status"]) == 0
    assert "has to go by" in capsys.readouterr().out
    assert retiring.late(home) is None
    later(30.1)
    assert run(purge) == 1
    assert "had to go by" in capsys.readouterr().err
