"""What persons did lately is never older than what was stored before it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nmtr.serving.http.live import Live, Person
from nmtr.serving.store import Event, Store

ALICE, PHONE = Person("user", "alice"), Person("visitor", "phone")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store.db")) as found:
        yield found


def seen(live: Live) -> list[object]:
    return [each.item for each in live.of([ALICE])[ALICE].events]


def test_a_visitor_s_events_reach_the_user_whom_they_became(store: Store) -> None:
    live = Live(store, {})
    store.append([Event("cup", "view", visitor_id="phone")])
    assert seen(live) == []
    store.merge(visitor_id="phone", user_id="alice")
    live.owned("phone", "alice")
    live.forget([ALICE, PHONE])
    assert seen(live) == ["cup"]
    store.append([Event("pot", "view", visitor_id="phone")])
    live.forget([PHONE])
    assert seen(live) == ["cup", "pot"]


def test_a_login_while_a_visitor_s_owner_is_looked_up_is_not_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, owner = Live(store, {}), store.owner

    def logs_in_meanwhile(visitor: str) -> str | None:
        before = owner(visitor)
        store.merge(visitor_id=visitor, user_id="alice")
        live.owned(visitor, "alice")
        return before

    monkeypatch.setattr(store, "owner", logs_in_meanwhile)
    live.forget([PHONE])  # of an event before the login
    assert seen(live) == []
    store.append([Event("cup", "view", visitor_id="phone")])
    live.forget([PHONE])
    assert seen(live) == ["cup"]
