"""Reads: a person's history in a moment, and all of the store in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
    union,
)

from nmtr.files import replace_folder
from nmtr.serving.store.database import Database, parts
from nmtr.serving.store.records import Stored
from nmtr.serving.store.schema import events, exposures, identities

DAY = 86_400_000_000  # microseconds
ROWS = 50_000  # read at once
LAST = 2**62  # beyond every number of a row
_TIME = pl.Datetime("us", "UTC")
EVENTS: dict[str, Any] = {
    "seq": pl.Int64,
    "user_id": pl.String,
    "visitor_id": pl.String,
    "item_id": pl.String,
    "behavior": pl.String,
    "timestamp": _TIME,
    "received_at": _TIME,
    "event_id": pl.String,
    "recommendation_id": pl.String,
}
EXPOSURES: dict[str, Any] = {
    "seq": pl.Int64,
    "recommendation_id": pl.String,
    "user_id": pl.String,
    "visitor_id": pl.String,
    "at": _TIME,
    "arm": pl.String,
    "model": pl.String,
    "items": pl.List(pl.String),
    "scores": pl.List(pl.Float64),
    "propensities": pl.List(pl.Float64),
}

_OWNER = func.coalesce(events.c.user_id, identities.c.user_id).label("user_id")
_OWNED = events.outerjoin(identities, events.c.visitor_id == identities.c.visitor_id)


def _newest(*conditions: ColumnElement[bool], of: FromClause = events) -> Select[Any]:
    query = select(*(events.c[name] for name in Stored._fields)).select_from(of)
    return query.where(*conditions).order_by(events.c.seq.desc()).limit(bindparam("limit"))


# Made once, since making a statement costs more than running it.
_LATER = events.c.seq > bindparam("after")
OWN = _newest(events.c.user_id == bindparam("id"), _LATER)
VISITORS = _newest(events.c.visitor_id == bindparam("id"), _LATER)
MERGED = _newest(
    identities.c.user_id == bindparam("id"),
    or_(_LATER, identities.c.seq > bindparam("after")),
    of=identities.join(events, events.c.visitor_id == identities.c.visitor_id),
)
_ANY_OF: BindParameter[Any] = bindparam("ids", expanding=True)
ACTIVE_USERS = union(
    select(events.c.user_id).where(events.c.user_id.in_(_ANY_OF)),
    select(identities.c.user_id).where(identities.c.user_id.in_(_ANY_OF)),
)
ACTIVE_VISITORS = select(events.c.visitor_id).where(events.c.visitor_id.in_(_ANY_OF)).distinct()
ANY_MERGED = select(identities.c.visitor_id).where(identities.c.user_id == bindparam("id")).limit(1)


def of_user(connection: Connection, user_id: str, *, after: int, limit: int) -> list[Stored]:
    """The newest events of a user and their visitors, oldest first.

    A visitor who was merged after `after` was another person until then: all of theirs count.
    """
    what = {"id": user_id, "after": after, "limit": limit}
    found = _stored(connection, OWN, what)
    if connection.execute(ANY_MERGED, {"id": user_id}).first() is not None:
        found = sorted(found + _stored(connection, MERGED, what))[-limit:]
    return found


def of_visitor(connection: Connection, visitor_id: str, *, after: int, limit: int) -> list[Stored]:
    """The newest events of a visitor, and nothing of the user whom they belong to."""
    return _stored(connection, VISITORS, {"id": visitor_id, "after": after, "limit": limit})


def active(
    connection: Connection, users: Collection[str], visitors: Collection[str]
) -> tuple[set[str], set[str]]:
    """Those who have any events; users also those who have a visitor."""
    of: dict[Any, Collection[str]] = {ACTIVE_USERS: users, ACTIVE_VISITORS: visitors}
    one, other = (
        {name for part in parts(ids) for name in connection.execute(query, {"ids": part}).scalars()}
        for query, ids in of.items()
    )
    return one, other


def _stored(connection: Connection, query: Select[Any], what: dict[str, Any]) -> list[Stored]:
    found = [Stored(*row) for row in connection.execute(query, what)]
    found.reverse()
    return found


def event_frames(
    database: Database, *, after: int, up_to: int, rows: int
) -> Iterator[pl.DataFrame]:
    """Events `after` < seq <= `up_to` with the users whom visitors belong to, in frames."""
    columns = [_OWNER if name == "user_id" else events.c[name] for name in EVENTS]
    query = select(*columns).select_from(_OWNED)
    return _frames(database, query, events.c.seq, EVENTS, after=after, up_to=up_to, rows=rows)


def exposure_frames(
    database: Database, *, after: int, up_to: int, rows: int
) -> Iterator[pl.DataFrame]:
    """Exposures `after` < seq <= `up_to`, in frames."""
    query = select(*(exposures.c[name] for name in EXPOSURES))
    lists = {name: kind for name, kind in EXPOSURES.items() if isinstance(kind, pl.List)}
    text = EXPOSURES | dict.fromkeys(lists, pl.String)
    for frame in _frames(
        database, query, exposures.c.seq, text, after=after, up_to=up_to, rows=rows
    ):
        yield frame.with_columns(
            pl.col(name).str.json_decode(dtype=kind) for name, kind in lists.items()
        )


def write_events(database: Database, folder: Path, *, after: int, up_to: int) -> int:
    """Write events as `events-*.parquet` in a new folder, whole or not at all; how many."""
    count = 0
    with replace_folder(folder) as temporary:
        frames = event_frames(database, after=after, up_to=up_to, rows=ROWS)
        for index, frame in enumerate(frames):
            frame.write_parquet(temporary / f"events-{index:05}.parquet")
            count += frame.height
    return count


def counts(database: Database, *, after: int, up_to: int) -> pl.DataFrame:
    """Events of each day (UTC, when they happened) and behaviour: day, behavior, events."""
    day = type_coerce(events.c.timestamp // DAY, Integer)
    query = (
        select(day, events.c.behavior, func.count())
        .where(events.c.seq > after, events.c.seq <= up_to)
        .group_by(day, events.c.behavior)
        .order_by(day, events.c.behavior)
    )
    with database.read() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    schema = {"day": pl.Int32, "behavior": pl.String, "events": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col("day").cast(pl.Date))


def _frames(
    database: Database,
    query: Select[Any],
    seq: ColumnElement[int],
    schema: dict[str, Any],
    *,
    after: int,
    up_to: int,
    rows: int,
) -> Iterator[pl.DataFrame]:
    """Each frame in a transaction of its own, so that no reader holds up the others for long."""
    while True:
        part = query.where(seq > after, seq <= up_to).order_by(seq).limit(rows)
        with database.read() as connection:
            found = [tuple(row) for row in connection.execute(part)]
        if not found:
            return
        yield pl.DataFrame(found, schema, orient="row")
        after = found[-1][0]
