"""Each way in which a store fails has an error of its own; it loses nothing, and it recovers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nmtr.errors import DamagedError, UsageError
from nmtr.serving.store import (
    BusyError,
    Event,
    Store,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    sqlite,
)

if TYPE_CHECKING:
    from tests.serving.store.conftest import Cluster

Opener = Callable[..., Store]


def view(item: str, **more: str) -> Event:
    return Event(item, "view", "alice", **more)  # type: ignore[arg-type]


def fill(store: Store) -> list[str]:
    """Send calls of ten events until the store is full; the ids that were acknowledged."""
    promised: list[str] = []
    for call in range(10_000):
        ids = [f"{call}-{each}" + "x" * 200 for each in range(10)]
        try:
            store.append([view("a", event_id=each) for each in ids])
        except StoreFullError:
            return promised
        promised += ids
    raise AssertionError("it was never full")


def event_ids(store: Store) -> list[str]:
    return [each for frame in store.frames() for each in frame["event_id"]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_store_acknowledges_nothing_more_and_keeps_what_it_has(
    tmp_path: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "max_page_count=100"))
        store = open_store(tmp_path / "store.db")
        promised = fill(store)
        assert promised
        assert event_ids(store) == promised
        with pytest.raises(StoreFullError, match=r"full; make room"):
            store.replace_stock(str(each) * 50 for each in range(5000))
        store.close()
    again = open_store(tmp_path / "store.db")
    assert event_ids(again) == promised
    assert again.append([view("a", event_id="new")]).accepted == 1


def test_a_full_disk_is_named_and_the_store_goes_on_when_there_is_room(
    disk: Path, open_store: Opener
) -> None:
    store = open_store(disk / "store.db")
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 2**20)
    promised = fill(store)
    assert event_ids(store) == promised
    ballast.unlink()
    assert store.append([view("a", event_id="new")]).accepted == 1
    assert event_ids(store) == [*promised, "new"]


def test_a_store_that_turns_read_only_is_named_and_can_still_be_read(
    tmp_path: Path, open_store: Opener
) -> None:
    store = open_store(tmp_path / "store.db")
    store.append([view("a")])
    writer = store._database._writer  # type: ignore[attr-defined]
    writer.connection.execute("PRAGMA query_only=ON")
    with pytest.raises(StoreReadOnlyError, match="readonly database") as caught:
        store.append([view("b")])
    assert "alice" not in "".join(traceback.format_exception(caught.value)), "logs hold no ids"
    assert [each.item_id for each in store.history(user_id="alice")] == ["a"]
    writer.connection.execute("PRAGMA query_only=OFF")
    assert store.append([view("c")]).accepted == 1


def test_a_store_on_a_read_only_disk_is_refused(disk: Path, open_store: Opener) -> None:
    open_store(disk / "store.db").close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StoreReadOnlyError, match=r"store\.db"):
        open_store(disk / "store.db")
    with pytest.raises(StoreReadOnlyError, match=r"new\.db"):
        open_store(disk / "new.db")
    with pytest.raises(StoreError, match=r"new\.db\.key: .*Read-only file system"):
        Store(disk / "new.db")


def test_a_file_that_may_not_be_written_is_refused(tmp_path: Path, open_store: Opener) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write every file")
    open_store(tmp_path / "store.db").close()
    (tmp_path / "store.db").chmod(0o400)
    with pytest.raises(StoreReadOnlyError):
        open_store(tmp_path / "store.db")


def test_a_read_only_database_is_named(cluster: Cluster, open_store: Opener) -> None:
    place = cluster.place()
    open_store(place).append([view("a")])
    read_only = place.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")
    store = open_store(read_only)
    with pytest.raises(StoreReadOnlyError, match="read-only transaction"):
        store.append([view("b")])
    assert [each.item_id for each in store.history(user_id="alice")] == ["a"]


def test_a_file_that_is_taken_away_is_missed_at_once_and_welcomed_back(
    tmp_path: Path, open_store: Opener
) -> None:
    path, away = tmp_path / "store.db", tmp_path / "away"
    store = open_store(path)
    store.append([view("a")])
    path.rename(away)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"no longer the file that was opened"):
            store.append([view("lost")])
        with pytest.raises(StoreUnavailableError):
            store.history(user_id="alice")
        with pytest.raises(StoreUnavailableError):
            store.last_seq()
    assert not path.exists(), "an empty store in its place would forget who was erased"
    away.rename(path)
    assert [each.item_id for each in store.history(user_id="alice")] == ["a"]
    assert store.append([view("b")]).accepted == 1
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM nmtr_events").fetchone() == (2,)


def test_a_commit_into_a_file_that_has_just_gone_is_not_acknowledged(
    tmp_path: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    store = open_store(path)

    def lose() -> int:
        path.unlink()
        return 0

    monkeypatch.setattr("nmtr.serving.store.ingest.now", lose)  # within the transaction
    with pytest.raises(StoreUnavailableError, match="no longer the file"):
        store.append([view("a")])


def test_a_folder_that_is_deleted_is_missed_at_once(tmp_path: Path, open_store: Opener) -> None:
    store = open_store(tmp_path / "data" / "store.db")
    store.append([view("a")])
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(StoreUnavailableError):
        store.append([view("b")])
    assert not (tmp_path / "data").exists()


def test_a_lost_write_ahead_log_is_missed(tmp_path: Path, open_store: Opener) -> None:
    """What goes into a file without a name would be gone at the next start."""
    store = open_store(tmp_path / "store.db")
    store.append([view("a")])
    (tmp_path / "store.db-wal").unlink()
    store.append([view("b")])
    with closing(sqlite3.connect(tmp_path / "store.db")) as other:
        found = other.execute("SELECT item_id FROM nmtr_events").fetchall()
    assert found == [("a",), ("b",)]


def test_a_database_that_is_down_is_named_and_welcomed_back(
    cluster: Cluster, open_store: Opener
) -> None:
    store = open_store(cluster.place())
    store.append([view("a")])
    cluster.stop()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                store.append([view("b")])
            with pytest.raises(StoreUnavailableError):
                store.history(user_id="alice")
    finally:
        cluster.start()
    assert store.append([view("c")]).accepted == 1
    assert [each.item_id for each in store.history(user_id="alice")] == ["a", "c"]
    cluster.stop()
    cluster.start()  # while nobody looks
    assert [each.item_id for each in store.history(user_id="alice")] == ["a", "c"]
    assert store.append([view("d")]).accepted == 1


def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    open_store: Opener,
) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("postgresql://shop:hunter2@127.0.0.1:1/shop")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_database_that_does_not_sync_is_refused(
    cluster: Cluster, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.execute("ALTER SYSTEM SET fsync = off")
    cluster.execute("SELECT pg_reload_conf()")
    try:
        with pytest.raises(StoreError, match="expected fsync = on, got off"):
            open_store(cluster.place())
    finally:
        cluster.execute("ALTER SYSTEM RESET fsync")
        cluster.execute("SELECT pg_reload_conf()")


def test_a_store_that_another_process_holds_is_busy(
    tmp_path: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "busy_timeout=50"))
    store = open_store(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="locked by another process"):
            store.append([view("a")])
        assert store.history(user_id="alice") == [], "readers wait for nobody"
        other.execute("ROLLBACK")
    assert store.append([view("a")]).accepted == 1


def test_a_database_that_another_server_holds_is_busy(
    cluster: Cluster, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmtr.serving.store import postgres

    monkeypatch.setattr(postgres, "ON_CONNECT", "SET lock_timeout = 50")
    place = cluster.place()
    one, other = open_store(place), open_store(place)
    with one._database.write(), pytest.raises(BusyError, match="lock timeout"):
        other.append([view("a")])
    assert other.append([view("a")]).accepted == 1


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 4096)


@pytest.mark.parametrize(("offset", "words"), [(0, "not a database"), (8192, "damaged")])
def test_a_damaged_file_is_refused(
    tmp_path: Path, open_store: Opener, offset: int, words: str
) -> None:
    path = tmp_path / "store.db"
    store = open_store(path)
    store.append([view(str(each)) for each in range(1000)])
    store.close()
    damage(path, offset)
    with pytest.raises(DamagedError, match=words):
        open_store(path)


def test_damage_that_is_met_later_is_named(
    tmp_path: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKED", 0)  # as of a file that is too large to be read whole
    path = tmp_path / "store.db"
    store = open_store(path)
    store.append([view(str(each)) for each in range(5000)])
    store.close()
    for offset in range(40 * 4096, path.stat().st_size, 4096):
        damage(path, offset)
    again = open_store(path)
    with pytest.raises(DamagedError, match=r"damaged .*restore a copy"):
        list(again.frames())


def test_what_is_no_store_is_refused(tmp_path: Path, open_store: Opener) -> None:
    (tmp_path / "notes.txt").write_text("to whom it may concern " * 500)
    with pytest.raises(DamagedError, match="not a database"):
        open_store(tmp_path / "notes.txt")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(DamagedError, match="of another program"):
        open_store(tmp_path / "other.db")
    with pytest.raises(UsageError, match="is a folder"):
        open_store(tmp_path)
    with pytest.raises(UsageError, match="another kind of URL"):
        open_store("mysql://shop@host/shop")
    with pytest.raises(UsageError, match="expected a URL such as postgresql://"):
        open_store("postgresql://host:port/shop")


def test_a_failure_of_any_kind_reaches_the_callers_and_the_next_call_works(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nmtr.serving.store.ingest.now", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.append([view("a")])
    future = store.submit([view("b")])
    assert not future.cancel(), "a caller who goes away takes nothing back"
    assert future.result().accepted == 1
    assert [each.item_id for each in store.history(user_id="alice")] == ["b"]
    assert store.waiting == 0
