"""Logs in databases read as files do; nothing is written, and no password is shown or kept."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.serving.store.conftest import Cluster

from nmtr.cli import run
from nmtr.data.events import EventLog, ReadOptions, read_events
from nmtr.data.prepare import prepare
from nmtr.data.reading import database
from nmtr.errors import DataError, UsageError

QUERY = "SELECT * FROM events ORDER BY ts"
ROWS = [(f"u{k % 7}", k % 5, "buy" if k % 3 == 0 else "view", 1_700_000_000 + k) for k in range(90)]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE events (user TEXT, item INTEGER, event TEXT, ts INTEGER)")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", ROWS)
        connection.execute(
            "CREATE VIEW buys AS SELECT user, item, ts FROM events WHERE event = 'buy'"
        )
    return path


@pytest.fixture
def postgres(cluster: Cluster) -> str:
    """The URL of a schema with the events, in types that only a database has."""
    place = cluster.place()
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE events (id uuid DEFAULT gen_random_uuid(), user_id numeric(20), "
            "item_id uuid, behavior text, happened timestamptz, price numeric(8, 2), tags text[])"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO events (user_id, item_id, behavior, happened) VALUES "
                "(%s, ('00000000-0000-0000-0000-' || lpad(%s::text, 12, '0'))::uuid, %s, "
                "to_timestamp(%s))",
                [(int(user[1:]), item, event, ts) for user, item, event, ts in ROWS],
            )
    return place


def read(url: str, **options: Any) -> EventLog:
    return read_events([url], ReadOptions(**options))


class TestSqlite:
    @pytest.mark.parametrize("batch", [1, 7, 1000])
    def test_a_query_reads_as_the_rows_are(
        self, shop: Path, batch: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "BATCH", batch)
        log = read(f"sqlite:///{shop}", query=QUERY)
        assert log.frame["user_id"].to_list() == [row[0] for row in ROWS]
        assert log.frame["timestamp"].to_list() == [row[3] * 1000 for row in ROWS]
        assert log.report.rows_read == 90
        assert log.sources == (f"sqlite:///{shop}",)

    def test_a_table_or_a_view_of_one_behavior(self, shop: Path) -> None:
        assert read(f"sqlite:///{shop}", table="events").frame.height == 90
        log = read_events([f"buy=sqlite:///{shop}"], ReadOptions(table="main.buys"))
        assert log.frame.height == 30
        assert set(log.frame["behavior"]) == {"buy"}

    def test_percent_and_colon_are_what_they_are(self, shop: Path) -> None:
        query = "SELECT user, item, event, ts FROM events WHERE user LIKE 'u%' AND event <> ':no'"
        assert read(f"sqlite:///{shop}", query=query).frame.height == 90

    def test_values_of_several_types_are_kept(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "loose.db")) as connection, connection:
            connection.execute("CREATE TABLE log (user, item, event, ts)")
            rows = [(1, "a", "view", 5), ("x", 2, "buy", 6.5), (None, 3, "buy", 7)]
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows)
        log = read(f"sqlite:///{tmp_path}/loose.db", table="log", malformed="drop", time_unit="s")
        assert log.frame.rows() == [("1", "a", "view", False, 5000), ("x", "2", "buy", False, 6500)]
        assert log.report.dropped == {"missing user": 1}
        with pytest.raises(DataError, match=r"loose\.db row 2: missing user"):
            read(f"sqlite:///{tmp_path}/loose.db", table="log")

    def test_nothing_can_be_written(self, shop: Path) -> None:
        before = shop.read_bytes()
        with pytest.raises(DataError, match="readonly"):
            read(f"sqlite:///{shop}", query="DELETE FROM events RETURNING *")
        assert shop.read_bytes() == before

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="expected a SQLite file, found none"):
            read(f"sqlite:///{tmp_path}/none.db", table="events")
        assert not list(tmp_path.iterdir())

    def test_wrong_tables_columns_and_queries_are_told(self, shop: Path) -> None:
        url = f"sqlite:///{shop}"
        with pytest.raises(UsageError, match=r"'event' is not there.*\['buys', 'events'\]"):
            read(url, table="event")
        with pytest.raises(UsageError, match="--user 'who' is not there; the columns are"):
            read(url, table="events", user="who")
        with pytest.raises(DataError, match="no such column: absent"):
            read(url, query="SELECT absent FROM events")
        with pytest.raises(DataError, match="expected events, got none"):
            read(url, query="SELECT * FROM events WHERE item > 99")
        with pytest.raises(UsageError, match="expected what to read from this database"):
            read(url)
        with pytest.raises(UsageError, match="give one of them"):
            ReadOptions(query=QUERY, table="events")

    def test_held_out_pairs_are_no_query(self, shop: Path) -> None:
        log = read(f"sqlite:///{shop}", table="events")
        with pytest.raises(UsageError, match=r"shop\.db: held-out pairs are read from files"):
            prepare(log, behaviors=["view", "buy"], holdout=f"sqlite:///{shop}")

    def test_queries_need_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,event\n1,2,buy\n")
        with pytest.raises(UsageError, match=r"for databases, and none is among.* log\.csv"):
            read(str(tmp_path / "log.csv"), table="events")


class TestPostgres:
    def test_a_table_with_types_of_its_own(self, postgres: str) -> None:
        log = read(postgres, table="events", time="happened")
        first = log.frame.sort("timestamp").row(1)
        assert first == (
            1, "00000000-0000-0000-0000-000000000001", "view", False, 1_700_000_001_000,
        )  # fmt: skip
        assert log.frame.height == 90

    def test_rows_are_streamed_by_a_cursor_on_the_server(
        self, postgres: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "BATCH", 20)
        seen: list[int] = []
        series = database._series

        def noted(name: str, values: Any) -> Any:
            seen.append(len(values))
            return series(name, values)

        monkeypatch.setattr(database, "_series", noted)
        # Fails in its last row: one that was fetched whole would give no batch at all.
        query = (
            "SELECT k AS user, 1 / (100 - k) AS item, 'buy' AS event FROM generate_series(1, 100) k"
        )
        with pytest.raises(DataError, match="division by zero"):
            read(postgres, query=query)
        assert seen == [20] * 3 * 4

    def test_a_transaction_that_writes_is_refused(self, postgres: str) -> None:
        query = "WITH gone AS (DELETE FROM events RETURNING *) SELECT * FROM gone"
        with pytest.raises(DataError, match=r"read-only|must not contain data-modifying"):
            read(postgres, query=query)
        assert read(postgres, table="events", time="happened").frame.height == 90

    def test_the_password_is_neither_shown_nor_kept(
        self,
        postgres: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        secret = "pa%3As-wort"
        url = postgres.replace("@", f":{secret}@", 1)
        monkeypatch.setenv("SHOP_LOG", url)
        out = tmp_path / "data"
        words = ["prepare", "env:SHOP_LOG", "--table", "events", "--time", "happened"]
        words += ["--behaviors", "view,buy", "--out", str(out)]
        assert run([*words, "--json"]) == 0
        printed = capsys.readouterr()
        kept = (out / "manifest.json").read_text()
        assert "pa:s-wort" not in printed.out + printed.err + kept
        assert secret not in printed.out + printed.err + kept
        assert json.loads(kept)["sources"][0].startswith("postgresql://")
        assert run([*words[:2], "--query", "SELECT broken", *words[6:8], "--out", "no"]) == 1
        assert secret not in capsys.readouterr().err

    def test_permissions_hosts_and_names_that_are_wrong_are_told(
        self, postgres: str, cluster: Cluster
    ) -> None:
        schema = postgres.rpartition("%3D")[2]
        name = f"reader_{schema}"
        cluster.execute(f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {name}")
        reader = postgres.replace(f"//{cluster.user}@", f"//{name}@")
        with pytest.raises(DataError, match="permission denied for table events"):
            read(reader, query="SELECT user_id, item_id, behavior FROM events")
        with pytest.raises(UsageError, match=r"--table 'none' is not there.*\['events'\]"):
            read(postgres, table=f"{schema}.none".removeprefix(f"{schema}."))
        with pytest.raises(DataError, match="connection"):
            read("postgresql://me:hidden@127.0.0.1:9/shop", table="events")


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"pip install 'nmtr\[postgres\]'"):
        read("postgresql://me@127.0.0.1:9/shop", table="events")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(UsageError, match=r"pip install 'nmtr\[sql\]'"):
        read("sqlite:///shop.db", table="events")


def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(UsageError) as told:
        read("mysql://me:secret@host:port/shop", table="events")
    assert "secret" not in str(told.value)
