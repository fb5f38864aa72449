"""Events go in once, in order, and come out as they went in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmtr.data.events import ReadOptions, read_events
from nmtr.errors import DataError, UsageError
from nmtr.serving.store import BusyError, Event, Receipt, Store, StoreUnavailableError
from nmtr.serving.store.records import now

Opener = Callable[..., Store]
NOON = 1_700_000_000_000_000  # 2023-11-14 22:13:20 UTC


def view(item: str, user: str = "alice", **more: object) -> Event:
    return Event(item_id=item, behavior="view", user_id=user, **more)  # type: ignore[arg-type]


def test_an_event_comes_back_as_it_was_given(store: Store) -> None:
    given = Event("äpfel", "buy", "Zoë", timestamp=NOON, event_id="1", recommendation_id="r1")
    assert store.append([given]) == Receipt(accepted=1)
    (found,) = store.history(user_id="Zoë")
    assert found[1:] == ("äpfel", "buy", NOON, "r1")
    assert store.last_seq() == found.seq


def test_an_event_sent_again_is_stored_once(store: Store) -> None:
    given = view("a", timestamp=NOON, event_id="1")
    assert store.append([given]).accepted == 1
    assert store.append([given, view("b", event_id="2")]) == Receipt(accepted=1, duplicates=1)
    assert store.append([view("c", event_id="3"), view("c", event_id="3")]).duplicates == 1
    assert [each.item_id for each in store.history(user_id="alice")] == ["a", "b", "c"]


def test_an_id_with_other_content_is_a_conflict_and_what_was_there_stays(store: Store) -> None:
    store.append([view("a", timestamp=NOON, event_id="1")])
    others = [
        view("b", timestamp=NOON, event_id="1"),
        view("a", timestamp=NOON + 1, event_id="1"),
        view("a", "bob", timestamp=NOON, event_id="1"),
        view("a", timestamp=NOON, event_id="1", recommendation_id="r"),
        Event("a", "buy", "alice", timestamp=NOON, event_id="1"),
        Event("a", "view", visitor_id="alice", timestamp=NOON, event_id="1"),
    ]
    assert store.append(others) == Receipt(conflicts=("1",) * 6)
    assert [each[1:4] for each in store.history(user_id="alice")] == [("a", "view", NOON)]


def test_a_repeat_without_a_time_is_no_conflict(store: Store) -> None:
    given = view("a", event_id="1")
    before = now()
    assert store.append([given]).accepted == 1
    assert store.append([given]).duplicates == 1
    assert before <= store.history(user_id="alice")[0].timestamp <= now()


def test_events_without_an_id_are_all_stored(store: Store) -> None:
    assert store.append([view("a"), view("a")]).accepted == 2
    assert store.append([view("a")]).accepted == 1
    assert len(store.history(user_id="alice")) == 3


def test_a_call_without_events_is_answered(store: Store) -> None:
    assert store.append([]) == Receipt()
    assert store.last_seq() == 0


def test_history_is_of_one_person_after_a_watermark_and_bounded(store: Store) -> None:
    store.append([view(str(each), "alice" if each % 2 else "bob") for each in range(10)])
    mark = store.history(user_id="alice")[2].seq
    assert [each.item_id for each in store.history(user_id="alice", after=mark)] == ["7", "9"]
    assert [each.item_id for each in store.history(user_id="alice", limit=2)] == ["7", "9"]
    assert store.history(user_id="carol") == []
    assert store.history(visitor_id="alice") == []
    with pytest.raises(UsageError, match="either a user_id or a visitor_id"):
        store.history()


def test_all_events_come_in_frames_up_to_a_number(store: Store) -> None:
    store.append([view(str(each), timestamp=NOON + each, event_id=str(each)) for each in range(10)])
    frames = store.frames(after=2, up_to=9, rows=3)
    first = next(frames)
    store.append([view("late")])
    found = pl.concat([first, *frames])
    assert found["item_id"].to_list() == ["2", "3", "4", "5", "6", "7", "8"]
    assert found["timestamp"].to_list()[0] == datetime.fromtimestamp(NOON / 1e6 + 2e-6, UTC)
    assert found["user_id"].unique().to_list() == ["alice"]
    assert found["event_id"].to_list() == found["item_id"].to_list()
    assert [each.height for each in store.frames(rows=4)] == [4, 4, 3]


def test_exported_events_can_be_prepared(store: Store, tmp_path: Path) -> None:
    given = [view("a"), view("b", timestamp=NOON), Event("b", "buy", "bob", timestamp=NOON + 5_000)]
    store.append(given)
    assert store.write_events(tmp_path / "export", after=1) == 2
    log = read_events([tmp_path / "export"], ReadOptions(user="user_id", behaviors=("view", "buy")))
    assert log.frame.select("user_id", "item_id", "behavior", "timestamp").rows() == [
        ("alice", "b", "view", NOON // 1000),
        ("bob", "b", "buy", NOON // 1000 + 5),
    ]


def test_events_are_counted_by_day_and_behaviour(store: Store) -> None:
    day = 86_400_000_000
    midnight = NOON // day * day
    times = [midnight - 1, midnight, midnight, midnight + day - 1, midnight + day]
    store.append([view("a", timestamp=each) for each in times])
    store.append([Event("a", "buy", visitor_id="v", timestamp=midnight)])
    days = [date(2023, 11, each) for each in (13, 14, 15)]
    assert store.counts().rows() == [
        (days[0], "view", 1),
        (days[1], "buy", 1),
        (days[1], "view", 3),
        (days[2], "view", 1),
    ]
    assert store.counts(after=4, up_to=5).rows() == [(days[2], "view", 1)]


def test_received_at_never_goes_back_though_the_clock_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for clock in (NOON, NOON - 10**15, NOON + 1):
        monkeypatch.setattr("nmtr.serving.store.ingest.now", lambda clock=clock: clock)
        store.append([view("a")])
    frame = pl.concat(store.frames())
    received = frame["received_at"].dt.epoch("us")
    assert received.to_list() == [NOON, NOON, NOON + 1]
    assert frame["seq"].is_sorted()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either a user_id or a visitor_id"),
        ({"user_id": "u", "visitor_id": "v"}, "either a user_id or a visitor_id"),
        ({"user_id": ""}, "user_id: expected 1 to 256 characters, got 0"),
        ({"user_id": "u" * 257}, "user_id: expected 1 to 256 characters, got 257"),
        ({"user_id": "a\0b"}, "NUL"),
        ({"user_id": "\ud800"}, "characters of Unicode"),
        ({"user_id": 7}, "user_id: expected text, got 7"),
        ({"user_id": "u", "timestamp": -1}, "timestamp: expected whole microseconds"),
        ({"user_id": "u", "timestamp": 1.5}, "timestamp: expected whole microseconds"),
        ({"user_id": "u", "timestamp": 2**62}, "timestamp: expected whole microseconds"),
        ({"user_id": "u", "item_id": ""}, "item_id"),
        ({"user_id": "u", "event_id": ""}, "event_id"),
    ],
)
def test_an_event_that_cannot_be_stored_is_refused_with_the_field(
    arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        Event(**{"item_id": "a", "behavior": "view"} | arguments)  # type: ignore[arg-type]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=256)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ids=st.lists(TEXT, min_size=1, max_size=3), item=TEXT, time=st.integers(0, 2**57))
def test_any_text_that_an_event_takes_is_stored_and_found(
    store: Store, ids: list[str], item: str, time: int
) -> None:
    for user in ids:
        before = len(store.history(user_id=user))
        store.append([Event(item, "view", user, timestamp=time)])
        found = store.history(user_id=user)
        assert len(found) == before + 1
        assert found[-1][1:4] == (item, "view", time)


def test_calls_that_wait_together_are_each_answered(store: Store) -> None:
    receipts: dict[int, Receipt] = {}

    def send(client: int) -> None:
        events = [view(f"{client}-{each}", event_id=f"{client}-{each}") for each in range(5)]
        receipts[client] = store.append([*events, view("shared", event_id="shared")])

    threads = [threading.Thread(target=send, args=(each,)) for each in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(each.accepted for each in receipts.values()) == 16 * 5 + 1
    assert sum(each.duplicates for each in receipts.values()) == 15
    assert len(store.history(user_id="alice")) == 16 * 5 + 1
    assert store.waiting == 0


def test_more_than_may_wait_is_turned_away(tmp_path: Path, open_store: Opener) -> None:
    store = open_store(tmp_path / "store.db", waiting=10)
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        go.wait()

    held = threading.Thread(target=store._writer.alone, args=(hold,))
    held.start()
    entered.wait()  # the writer is busy, and one row waits
    first, second = store.submit([view("a")] * 5), store.submit([view("b")] * 4)
    with pytest.raises(BusyError, match="10 rows wait"):
        store.submit([view("c")])
    go.set()
    held.join()
    assert (first.result().accepted, second.result().accepted) == (5, 4)
    assert store.append([view("c")]).accepted == 1
    with pytest.raises(DataError, match="at most 5 rows in a call, got 6"):
        store.submit([view("a")] * 6)


def test_a_closed_store_has_stored_all_and_takes_no_more(place: str, open_store: Opener) -> None:
    store = open_store(place)
    futures = [store.submit([view(str(each))]) for each in range(100)]
    store.close()
    assert all(each.result(timeout=0).accepted == 1 for each in futures)
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.submit([view("late")])
    assert len(open_store(place).history(user_id="alice")) == 100
