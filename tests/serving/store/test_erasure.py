"""An erased person is gone from every row and byte, and does not come back."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from nmtr.errors import DamagedError, UsageError
from nmtr.serving.store import Event, Exposure, Receipt, Store
from nmtr.serving.store.records import now
from nmtr.serving.store.tombstones import Tombstones

if TYPE_CHECKING:
    from tests.serving.store.conftest import Cluster

Opener = Callable[..., Store]
NAME = "Alice-Liddell-of-Oxford"
COOKIE = "cookie-7f3a9c"
DAY = 86_400_000_000


def view(item: str, **who: str) -> Event:
    return Event(item_id=item, behavior="view", **who)  # type: ignore[arg-type]


def shown(name: str, **who: str) -> Exposure:
    return Exposure(name, ["a"], [1.0], [1.0], "model", **who)  # type: ignore[arg-type]


def fill(store: Store, others: int = 400) -> None:
    """A person between many others, in pages that split and are freed again."""
    for index in range(others):
        mine = [view(str(index), user_id=NAME), view(str(index), visitor_id=COOKIE)]
        store.submit([view("x", user_id=f"user-{index}", event_id=f"e{index}"), *mine])
        store.show(shown(f"r{index}", user_id=NAME if index % 2 else f"user-{index}"))
    store.show(shown("rv", visitor_id=COOKIE)).result()
    store.merge(visitor_id=COOKIE, user_id=NAME)


def files_with(text: str, folder: Path) -> list[str]:
    """Names of the files that hold a text, searched by another process.

    Were they opened and closed in this one, its locks on an SQLite file would be lost.
    """
    command = ["grep", "-r", "-a", "-l", "-F", text, str(folder)]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def test_every_row_goes_and_the_others_stay(store: Store) -> None:
    fill(store, 20)
    before = now()
    receipt = store.erase(NAME)
    assert (receipt.events, receipt.exposures, receipt.visitors) == (40, 11, 1)
    assert receipt.compacted
    assert receipt.refused == 0
    assert before <= receipt.at <= now()
    assert receipt.deadline == receipt.at + 30 * DAY
    assert store.history(user_id=NAME) == store.history(visitor_id=COOKIE) == []
    assert store.owner(COOKIE) is None
    assert pl.concat(store.frames())["user_id"].to_list() == [f"user-{each}" for each in range(20)]
    assert pl.concat(store.exposures())["user_id"].n_unique() == 10


def test_no_byte_of_an_erased_person_is_left_in_the_data_folder(
    tmp_path: Path, open_store: Opener
) -> None:
    store = open_store(tmp_path / "store.db")
    fill(store)
    assert files_with(NAME, tmp_path), "or the search finds nothing at all"
    assert store.erase(NAME).compacted
    assert files_with(NAME, tmp_path) == []
    assert files_with(COOKIE, tmp_path) == []
    assert files_with("user-7", tmp_path)
    store.append([view("a", user_id=NAME)])  # refused: not even a trace in the log
    assert files_with(NAME, tmp_path) == []


def test_postgres_keeps_no_byte_in_its_tables(cluster: Cluster, open_store: Opener) -> None:
    store = open_store(cluster.place())
    fill(store)
    cluster.execute("CHECKPOINT")  # every page goes to its file
    assert files_with(NAME, cluster.data / "base")
    assert store.erase(NAME).compacted
    cluster.execute("CHECKPOINT")  # every page goes to its file
    assert files_with(NAME, cluster.data / "base") == []
    assert files_with(COOKIE, cluster.data / "base") == []


def test_later_events_of_the_erased_are_refused_and_counted(store: Store) -> None:
    fill(store, 3)
    store.erase(NAME)
    late = [view("a", user_id=NAME), view("b", visitor_id=COOKIE), view("c", user_id="user-1")]
    assert store.append(late) == Receipt(accepted=1, erased=2)
    assert store.append(late[:1] * 3) == Receipt(erased=3)
    store.show(shown("late", user_id=NAME)).result()
    store.show(shown("late too", visitor_id=COOKIE)).result()
    assert store.history(user_id=NAME) == store.history(visitor_id=COOKIE) == []
    assert pl.concat(store.exposures())["recommendation_id"].to_list() == ["r0", "r2"]
    assert [each.refused for each in store.erasures()] == [5]


def test_a_visitor_named_like_an_erased_user_is_somebody_else(store: Store) -> None:
    store.erase("v")
    assert store.append([view("a", visitor_id="v")]).accepted == 1


def test_an_event_before_the_erasure_in_the_queue_goes_too(store: Store) -> None:
    future = store.submit([view("a", user_id=NAME)])
    receipt = store.erase(NAME)
    assert future.result().accepted == 1
    assert receipt.events == 1


def test_a_repeat_gives_the_first_receipt(store: Store) -> None:
    fill(store, 2)
    first = store.erase(NAME)
    assert store.erase(NAME) == first
    unknown = store.erase("nobody")
    assert (unknown.events, unknown.compacted) == (0, True)
    assert store.erasures() == [first, unknown]
    assert store.erasures(after=first.at) == [unknown]


def test_nothing_is_rewritten_where_nothing_was_deleted(
    place: str, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(place)
    fill(store, 2)
    store.erase(NAME)
    monkeypatch.setattr(type(store._database), "compact", lambda self: pytest.fail("rewritten"))
    assert store.erase(NAME).compacted
    assert store.erase("nobody").compacted


def test_another_server_honours_it(place: str, open_store: Opener) -> None:
    one, other = open_store(place), open_store(place)
    fill(one, 2)
    other.erase(NAME)
    assert one.append([view("a", user_id=NAME)]) == Receipt(erased=1)
    one.close()
    assert open_store(place).append([view("a", user_id=NAME)]).erased == 1


def test_a_reader_in_the_way_delays_the_compaction(
    tmp_path: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nmtr.serving.store.sqlite.PRAGMAS", ("secure_delete=ON", "busy_timeout=50")
    )
    store = open_store(tmp_path / "store.db")
    fill(store, 2)
    with store._database.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM nmtr_events").all()
        assert not store.erase(NAME).compacted
        assert not store.compact()
        assert store.append([view("a", user_id="bob")]).accepted == 1
    assert store.compact()
    assert store.erasures()[0].compacted
    assert files_with(NAME, tmp_path) == []


def test_a_compaction_that_was_cut_off_is_due_when_the_store_is_opened_again(
    tmp_path: Path, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "store.db")
    fill(store, 2)
    monkeypatch.setattr(type(store._database), "compact", lambda self: False)
    assert not store.erase(NAME).compacted
    store.close()
    monkeypatch.undo()
    assert open_store(tmp_path / "store.db").erasures()[0].compacted


def test_logs_from_elsewhere_lose_the_erased_too(store: Store) -> None:
    store.erase("7")
    store.erase(NAME)
    frame = pl.DataFrame({"user_id": [NAME, "bob", None, NAME], "n": [1, 2, 3, 4]})
    assert store.honour(frame)["n"].to_list() == [2, 3]
    assert store.honour(frame, kind="visitor").height == 4
    numbers = pl.DataFrame({"uid": [7, 8]})
    assert store.honour(numbers, column="uid")["uid"].to_list() == [8]


def test_a_hash_needs_the_key_and_says_nothing_without_it() -> None:
    one, other = Tombstones(b"k" * 16), Tombstones(b"l" * 16)
    assert one.hash(("user", "alice")) != other.hash(("user", "alice"))
    assert one.hash(("user", "alice")) != one.hash(("visitor", "alice"))
    # RFC 2104 by hand: the hash is HMAC-SHA256 of kind, NUL, id.
    pad = b"k" * 16 + b"\0" * 48
    inner = hashlib.sha256(bytes(each ^ 0x36 for each in pad) + b"user\0alice").digest()
    outer = hashlib.sha256(bytes(each ^ 0x5C for each in pad) + inner).hexdigest()
    assert one.hash(("user", "alice")) == outer


def test_the_files_are_their_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "store.db"
    with Store(path) as store:
        store.erase(NAME)
    key = tmp_path / "data" / "store.db.key"
    assert {each.stat().st_mode & 0o777 for each in (tmp_path / "data").iterdir()} == {0o600}
    assert len(key.read_bytes().strip()) == 64
    with Store(path) as store:
        assert store.append([view("a", user_id=NAME)]).erased == 1
    key.unlink()
    with pytest.raises(DamagedError, match=r"store\.db\.key, the store's erasure key, is missing"):
        Store(path)
    assert not key.exists()


def test_another_key_is_refused(place: str, open_store: Opener) -> None:
    open_store(place).erase(NAME)
    with pytest.raises(DamagedError, match="not the one that this store was made with"):
        open_store(place, key=b"another key of some length")


def test_a_short_key_and_a_missing_one_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 16 bytes, got 3"):
        Store("postgresql://nobody@localhost/none", key=b"abc")
    with pytest.raises(UsageError, match="needs an erasure key"):
        Store("postgresql://nobody@localhost/none")
