"""What an ADBC driver reads by Polars is prepared as what SQLAlchemy reads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import psycopg
import pytest
from tests.serving.store.conftest import Cluster

import nmtr
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare

ROWS = [(f"u{k % 7}", k % 5, "buy" if k % 3 == 0 else "view", 1_700_000_000 + k) for k in range(90)]
QUERY = "SELECT user_id, item_id, behavior, {} AS timestamp FROM events ORDER BY timestamp"
BEHAVIORS = ("view", "buy")
COLUMNS = "(user_id text, item_id bigint, behavior text, ts {})"


def both(url: str, query: str) -> tuple[Interactions, Interactions]:
    """By ADBC and Polars, and by SQLAlchemy."""
    pytest.importorskip("pyarrow", reason="ADBC needs pyarrow")
    frame = pl.read_database_uri(query, url, engine="adbc")
    log = read_events([url], ReadOptions(behaviors=BEHAVIORS, query=query))
    return nmtr.interactions(frame, BEHAVIORS), prepare(log, behaviors=BEHAVIORS)


def alike(one: Interactions, other: Interactions) -> None:
    assert one.n_users == 7
    assert one.users.ids.to_list() == other.users.ids.to_list()
    assert one.items.ids.to_list() == other.items.ids.to_list()
    assert one.code.tolist() == other.code.tolist()
    assert [each.indices.tolist() for each in one.records().sets] == [
        each.indices.tolist() for each in other.records().sets
    ]


def test_sqlite(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_sqlite", reason="needs adbc-driver-sqlite")
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE events {COLUMNS.format('integer')}")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", ROWS)
    alike(*both(f"sqlite:///{path}", QUERY.format("ts")))


def test_postgresql(cluster: Cluster) -> None:
    pytest.importorskip("adbc_driver_postgresql", reason="needs adbc-driver-postgresql")
    place = cluster.place()
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE events {COLUMNS.format('timestamptz')}".encode())
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO events VALUES (%s, %s, %s, to_timestamp(%s))", ROWS)
    alike(*both(place, QUERY.format("ts")))
