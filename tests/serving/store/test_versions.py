"""A store is made once, brought forward step by step, and of a newer nmtr refused."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from nmtr.errors import DamagedError
from nmtr.serving.store import Event, Store, StoreError, schema

Opener = Callable[..., Store]


def view(item: str) -> Event:
    return Event(item, "view", "alice")


def test_a_store_of_a_newer_nmtr_is_refused(place: str, open_store: Opener) -> None:
    store = open_store(place)
    with store._database.write() as connection:
        connection.execute(schema.schema.insert(), {"version": 7, "at": 0})
    with pytest.raises(DamagedError, match=r"newer nmtr \(schema 7, this one knows 1\)"):
        open_store(place)


def test_an_older_store_is_brought_forward_step_by_step(
    place: str, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(place).append([view("a")])
    steps: list[int] = []

    def step(number: int) -> Callable[[Connection], None]:
        def run(connection: Connection) -> None:
            steps.append(number)
            connection.execute(text(f"CREATE TABLE nmtr_step_{number} (n INTEGER)"))

        return run

    monkeypatch.setattr(schema, "VERSION", 3)
    monkeypatch.setattr(schema, "MIGRATIONS", {1: step(1), 2: step(2)})
    store = open_store(place)
    assert steps == [1, 2]
    assert [each.item_id for each in store.history(user_id="alice")] == ["a"]
    with store._database.read() as connection:
        assert schema.version(connection) == 3
        connection.execute(text("SELECT * FROM nmtr_step_1, nmtr_step_2")).all()
    open_store(place)
    assert steps == [1, 2]


def test_a_step_that_fails_leaves_the_store_as_it_was(
    place: str, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(place).append([view("a")])

    def fail(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE nmtr_half (n INTEGER)"))
        connection.execute(text("SELECT * FROM nmtr_nothing"))

    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", 2)
        patch.setattr(schema, "MIGRATIONS", {1: fail})
        with pytest.raises(StoreError, match="nmtr_nothing"):
            open_store(place)
    store = open_store(place)
    with store._database.read() as connection:
        assert schema.version(connection) == 1
    with pytest.raises(StoreError, match="nmtr_half"), store._database.read() as connection:
        connection.execute(text("SELECT * FROM nmtr_half"))


def test_servers_that_start_together_make_one_store(place: str, open_store: Opener) -> None:
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            open_store(place).append([view(str(index))])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert len(open_store(place).history(user_id="alice")) == 6
