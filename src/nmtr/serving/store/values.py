"""Single values that the store keeps about itself."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from nmtr.serving.store.schema import events, settings

HIGHEST = "highest_seq"


def get(connection: Connection, name: str) -> str | None:
    """The value of a name; None where there is none."""
    query = select(settings.c.value).where(settings.c.name == name)
    return connection.execute(query).scalar()


def put(connection: Connection, name: str, value: str | None) -> None:
    """Set the value of a name; None takes it away."""
    connection.execute(delete(settings).where(settings.c.name == name))
    if value is not None:
        connection.execute(insert(settings), {"name": name, "value": value})


def highest_seq(connection: Connection) -> int:
    """The highest number taken so far, by events, erased or not, and merges; 0 before the first."""
    there = connection.execute(select(func.max(events.c.seq))).scalar() or 0
    return max(there, int(get(connection, HIGHEST) or 0))


def take_seq(connection: Connection) -> int:
    """A number among those of the events, which no event will have."""
    row = {"item_id": "", "behavior": "", "timestamp": 0, "received_at": 0}
    key = connection.execute(insert(events), row).inserted_primary_key
    seq: int = key[0] if key else 0
    connection.execute(delete(events).where(events.c.seq == seq))
    put(connection, HIGHEST, str(seq))
    return seq
