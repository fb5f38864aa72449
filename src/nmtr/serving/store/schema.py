"""The tables, and the way from an older schema to this one."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
)

from nmtr.errors import DamagedError
from nmtr.serving.store.records import now

VERSION = 1
# From a version to the next one. A store that is made now gets the tables below at once.
MIGRATIONS: dict[int, Callable[[Connection], None]] = {}

metadata = MetaData()
_Seq = BigInteger().with_variant(Integer, "sqlite")


def _sequenced(name: str, *columns: Column[str] | Column[int]) -> Table:
    """A table whose rows are numbered in the order of their commits; no number is used again."""
    return Table(
        name,
        metadata,
        Column("seq", _Seq, primary_key=True, autoincrement=True),
        Column("user_id", Text),
        Column("visitor_id", Text),
        *columns,
        sqlite_autoincrement=True,
    )


def _index_where_given(table: Table, *names: str, unique: bool = False) -> None:
    first = table.c[names[0]]
    Index(
        f"{table.name}_{names[0]}",
        *(table.c[name] for name in names),
        unique=unique,
        sqlite_where=first.is_not(None),
        postgresql_where=first.is_not(None),
    )


schema = Table(
    "nmtr_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)
settings = Table(
    "nmtr_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
events = _sequenced(
    "nmtr_events",
    Column("item_id", Text, nullable=False),
    Column("behavior", Text, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("event_id", Text),
    Column("recommendation_id", Text),
)
exposures = _sequenced(
    "nmtr_exposures",
    Column("recommendation_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("arm", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("items", Text, nullable=False),
    Column("scores", Text, nullable=False),
    Column("propensities", Text, nullable=False),
)
_index_where_given(events, "event_id", unique=True)
_index_where_given(events, "user_id", "seq")
_index_where_given(events, "visitor_id", "seq")
_index_where_given(exposures, "recommendation_id", unique=True)
_index_where_given(exposures, "user_id", "seq")
_index_where_given(exposures, "visitor_id", "seq")

identities = Table(
    "nmtr_identities",
    metadata,
    Column("visitor_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False, index=True),
    Column("seq", BigInteger, nullable=False),  # its own, between those of events
    Column("at", BigInteger, nullable=False),
)
tombstones = Table(
    "nmtr_tombstones",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("user_hash", Text),  # of a visitor: the user who was erased
    Column("at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("exposures", BigInteger, nullable=False),
    Column("visitors", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
)
stock = Table("nmtr_stock", metadata, Column("item_id", Text, primary_key=True))


def upgrade(connection: Connection, *, where: str) -> None:
    """Make the tables, or bring an older schema forward, within the caller's transaction.

    Raises DamagedError where a newer nmtr made them.
    """
    found = version(connection)
    if found == VERSION:
        return
    check_version(found, where=where)
    if found == 0:
        metadata.create_all(connection)
    for step in range(found, VERSION) if found else ():
        MIGRATIONS[step](connection)
    connection.execute(insert(schema), {"version": VERSION, "at": now()})


def version(connection: Connection) -> int:
    """The schema's version; 0 where there are no tables yet."""
    if not inspect(connection).has_table(schema.name):
        return 0
    return connection.execute(select(func.max(schema.c.version))).scalar() or 0


def check_version(found: int, *, where: str) -> None:
    """Raise DamagedError for a version that this nmtr cannot read."""
    if found > VERSION:
        raise DamagedError(
            f"{where} was made by a newer nmtr (schema {found}, this one knows {VERSION}); "
            "install that nmtr, or name another store"
        )
