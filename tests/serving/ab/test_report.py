"""The report, from a store in which we know who did what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nmtr.serving.ab.outcomes import read
from nmtr.serving.ab.report import Compared, report
from nmtr.serving.store import Event, Exposure, Store

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
ARMS = [Compared("control", "x/control", 0.5), Compared("new", "x/new", 0.5)]


def time(hours: float) -> int:
    return int(START.timestamp() * 1e6 + hours * HOUR)


def shown(name: str, arm: str, hours: float, **who: str) -> Exposure:
    """A list of two, the second drawn at random with chance 0.1."""
    return Exposure(
        name, ["a", "b"], [1, 0.5], [0.9, 0.1], "model", f"x/{arm}", at=time(hours), **who
    )


def bought(hours: float, item: str = "a", cites: str | None = None, **who: str) -> Event:
    return Event(item, "buy", timestamp=time(hours), recommendation_id=cites, **who)


def made(store: Store, hours: float = 100, **options: Any) -> dict[str, Any]:
    found = read(store, ["x/control", "x/new"], "buy", options.pop("since", 0))
    return report(found, ARMS, hours=24, alpha=0.05, now=START + timedelta(hours=hours))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as opened:
        for each in (
            shown("1", "control", 0, user_id="ann"),
            shown("2", "control", 1, user_id="ann"),
            shown("3", "new", 2, user_id="ann"),
            shown("4", "new", 0, visitor_id="cookie"),
            shown("5", "new", 0, user_id="bob"),
            shown("6", "control", 0, user_id="cid"),
            shown("7", "new", 90, user_id="eve"),
            shown("8", "new", 0),
            shown("9", "other", 0, user_id="zoe"),
        ):
            opened.show(each)
        opened.append([
            bought(3, user_id="ann", cites="2"),
            bought(3, "b", user_id="ann", cites="2"),
            bought(3, "z", user_id="ann", cites="2"),
            bought(-1, user_id="bob"),
            bought(24.5, user_id="bob"),
            bought(5, visitor_id="cookie"),
            Event("a", "view", user_id="cid", timestamp=time(1)),
            bought(91, user_id="eve"),
        ])  # fmt: skip
        opened.merge(visitor_id="cookie", user_id="dan")
        yield opened


def test_each_person_counts_once_for_the_first_arm_within_the_window(store: Store) -> None:
    found = made(store)
    control, new = found["arms"]
    assert (control["persons"], control["conversion"]["did"]) == (2, 1), "ann did, cid did not"
    assert new["persons"] == 3, "dan by the cookie, bob, eve; zoe's arm is not of this experiment"
    assert new["in_window"] == 1, "eve's window is not over"
    assert (new["conversion"]["persons"], new["conversion"]["did"]) == (2, 1), "dan; bob too late"
    assert new["conversion"]["value"] == 0.5
    assert (found["persons"], found["crossed"], found["lists_for_nobody"]) == (5, 1, 1)
    assert made(store, hours=200)["arms"][1]["conversion"]["did"] == 2, "eve, in the end"


def test_events_that_cite_a_list_count_by_its_items_and_places(store: Store) -> None:
    control, new = made(store)["arms"]
    assert (control["lists"], control["per_list"]["cited"]) == (3, 2), "z was not on the list"
    assert control["per_list"]["value"] == pytest.approx(2 / 3)
    assert new["lists"] == 5
    best = control["exploration"]["best_by_ips"]["value"]
    assert best == pytest.approx((1 / 0.9) / 3), "a, first by rank, counts 1/0.9 times; b not"
    snips = control["exploration"]["best_by_snips"]["value"]
    assert snips == pytest.approx((1 / 0.9) / (3 / 0.9) * 2)


def test_lists_before_since_do_not_count(store: Store) -> None:
    found = made(store, since=time(1.5) // 1000)
    assert [each["persons"] for each in found["arms"]] == [0, 2], "ann is in new then, with eve"


def test_a_store_without_lists_gives_a_report_that_knows_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "empty.db") as empty:
        found = made(empty)
    assert found["arms"][0]["conversion"]["value"] is None
    assert found["dealing"] == {
        "p_value": 1.0, "mismatch": False, "shares": {"control": 0.5, "new": 0.5},
        "persons": {"control": 0, "new": 0},
    }  # fmt: skip


def test_a_wrong_dealing_is_seen_and_a_difference_found(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        for arm, persons, step in (("control", 3000, 20), ("new", 2700, 8)):
            for part in range(0, persons, 500):
                for n in range(part, part + 500 if part + 500 < persons else persons):
                    store.show(shown(f"{arm}{n}", arm, 0, user_id=f"{arm}{n}"))
                store.append([
                    bought(1, user_id=f"{arm}{n}") for n in range(part, min(part + 500, persons))
                    if n % step == 0
                ])  # fmt: skip
        found = made(store)
    assert found["dealing"]["mismatch"]
    difference = found["arms"][1]["conversion"]["difference"]
    assert difference["low"] > 0
    assert difference["p_value"] < 0.05
    assert difference["relative"] == pytest.approx(1.5, rel=0.02)
    assert found["arms"][0]["conversion"]["difference"] is None
