"""The store's benchmark counts what was acknowledged, and says what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def store(benchmark_module: Callable[[str], ModuleType]) -> Any:
    return benchmark_module("store")


def test_a_rate_counts_the_events_of_all_writers(store: Any) -> None:
    def send(call: list[Any]) -> None:
        time.sleep(0.01)

    found = store.events_per_second(send, 5, 3, 0.2)
    assert 100 < found <= 1500  # three writers, five events in 10 ms each


def test_both_sides_store_the_same_events(store: Any, tmp_path: Path) -> None:
    rows = []
    for opened in (store.ours, store.bare):
        folder = tmp_path / opened.__name__
        folder.mkdir()
        events = store.events(3)
        with opened(str(folder)) as send:
            send(events)
        with store.Store(folder / "store.db", key=store.KEY) as kept:
            (frame,) = kept.frames()
        assert frame["event_id"].to_list() == [each.event_id for each in events]
        rows.append(frame.drop("event_id", "received_at", "timestamp", "user_id").rows())
    assert rows[0] == rows[1]


def test_the_page_gives_shares_within_a_round_and_the_verdict(store: Any) -> None:
    found = [
        store.Measurement("one by one", name, side, 1, number, "events_per_second", rate)
        for number, (mine, theirs) in enumerate([(2000.0, 4000.0), (900.0, 9000.0)])
        for name, side, rate in ((store.OURS, "ours", mine), (store.BARE, "peer", theirs))
    ]
    found.append(store.Measurement("history", store.OURS, "ours", 1, 1, "per_second", 300.0))
    about = dict.fromkeys(("date", "cpu", "load", "python", "nmtr"), "?")
    text = store.page(found, about)
    assert (
        "| one by one | 1,450 (900 to 2,000) | 6,500 (4,000 to 9,000) | 0.3 (0.1 to 0.5) |" in text
    )
    assert "| 1,000 | yes |" in text
    assert "| history | 300 (300 to 300) |" in text
