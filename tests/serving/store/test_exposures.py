"""What was shown is remembered as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from nmtr.errors import DataError
from nmtr.serving.store import BusyError, Event, Exposure, Receipt, Store

NOON = 1_700_000_000_000_000


def shown(name: str = "r1", **more: Any) -> Exposure:
    given: dict[str, Any] = {
        "items": ["a", 'ä"b'],
        "scores": [0.1 + 0.2, -1e300],
        "propensities": [0.95, 0.05],
        "model": "sha256:1",
    }
    return Exposure(name, **given | more)


def test_an_exposure_comes_back_as_it_was_given(store: Store) -> None:
    store.show(shown(user_id="alice", arm="B", at=NOON)).result()
    (frame,) = store.exposures()
    assert frame.rows(named=True) == [
        {
            "seq": 1,
            "recommendation_id": "r1",
            "user_id": "alice",
            "visitor_id": None,
            "at": datetime.fromtimestamp(NOON / 1e6, UTC),
            "arm": "B",
            "model": "sha256:1",
            "items": ["a", 'ä"b'],
            "scores": [0.1 + 0.2, -1e300],
            "propensities": [0.95, 0.05],
        }
    ]


def test_exposures_come_in_frames_and_one_with_nothing_in_it_too(store: Store) -> None:
    for index in range(5):
        exposure = shown(str(index)) if index else shown("0", items=[], scores=[], propensities=[])
        store.show(exposure)
    store.append([])  # behind them in the queue
    frames = list(store.exposures(rows=2))
    assert [each.height for each in frames] == [2, 2, 1]
    assert frames[0]["items"].to_list() == [[], ["a", 'ä"b']]
    assert frames[0]["scores"].dtype == pl.List(pl.Float64)
    assert [each["recommendation_id"].to_list() for each in store.exposures(after=3)] == [
        ["3", "4"]
    ]
    assert [each["recommendation_id"].to_list() for each in store.exposures(up_to=1)] == [["0"]]


def test_of_two_with_one_id_the_first_stays(store: Store) -> None:
    for arm in ("A", "B"):
        store.show(shown(arm=arm))
    store.show(shown("r2", arm="C"))
    store.show(shown("r2", arm="D")).result()
    assert pl.concat(store.exposures())["arm"].to_list() == ["A", "C"]


def test_an_acknowledged_event_has_its_exposure_before_it(store: Store) -> None:
    store.show(shown("r9", visitor_id="v"))
    cited = Event("a", "buy", visitor_id="v", recommendation_id="r9")
    assert store.append([cited]) == Receipt(accepted=1)
    assert pl.concat(store.exposures())["recommendation_id"].to_list() == ["r9"]
    assert store.history(visitor_id="v")[0].recommendation_id == "r9"


def test_exposures_may_take_half_of_the_queue(place: str, open_store: Callable[..., Store]) -> None:
    store = open_store(place, waiting=20)
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        go.wait()

    held = threading.Thread(target=store._writer.alone, args=(hold,))
    held.start()
    entered.wait()
    futures = [store.show(shown(str(each))) for each in range(10)]
    with pytest.raises(BusyError):
        store.show(shown("one more"))
    event = store.submit([Event("a", "view", "alice")])
    go.set()
    held.join()
    assert event.result().accepted == 1
    assert all(each.done() for each in futures)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"scores": [1.0]}, "scores: expected one for each of 2 items, got 1"),
        ({"propensities": [1.0, float("nan")]}, "propensities: expected finite numbers"),
        ({"items": ["a", ""]}, "items: expected 1 to 256"),
        ({"user_id": "u", "visitor_id": "v"}, "a user_id or a visitor_id, got both"),
        ({"arm": "\0"}, "arm"),
        ({"model": ""}, "model"),
        ({"at": -5}, "at: expected whole microseconds"),
    ],
)
def test_an_exposure_that_cannot_be_stored_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        shown(**more)
