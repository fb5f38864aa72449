"""Erasing a person: every row about them goes, and a hash stays by which later ones are refused."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, or_, select

from nmtr.serving.store.database import Database
from nmtr.serving.store.records import Erasure, check_text, now
from nmtr.serving.store.schema import events, exposures, identities, tombstones
from nmtr.serving.store.tombstones import Tombstones
from nmtr.serving.store.values import HIGHEST, get, highest_seq, put

DUE = "compaction_due"  # since a row was deleted whose bytes may still lie in the files
DAY = 86_400_000_000  # microseconds


def purge(connection: Connection, user_id: str, *, erased: Tombstones, days: int) -> str:
    """Delete a user and the visitors merged into them; the hash that the tombstone has.

    A repeat keeps the first receipt. days: within which artefacts made before must be retired.
    """
    check_text("user_id", user_id)
    query = select(identities.c.visitor_id).where(identities.c.user_id == user_id)
    visitors = list(connection.execute(query).scalars())
    put(connection, HIGHEST, str(highest_seq(connection)))
    went = {table.name: _purge(connection, table, user_id) for table in (events, exposures)}
    connection.execute(delete(identities).where(identities.c.user_id == user_id))
    if visitors or any(went.values()):
        put(connection, DUE, uuid.uuid4().hex)
    mine = erased.hash(("user", user_id))
    if receipts(connection, mine):
        return mine
    at = now()
    stone = {"at": at, "deadline": at + days * DAY, "refused": 0}
    counts = {"events": went[events.name], "exposures": went[exposures.name]}
    rows: list[dict[str, Any]] = [
        {"hash": mine, "user_hash": None, **stone, **counts, "visitors": len(visitors)}
    ]
    none = {"events": 0, "exposures": 0, "visitors": 0}
    for each in visitors:
        theirs = erased.hash(("visitor", each))
        rows.append({"hash": theirs, "user_hash": mine, **stone, **none})
    connection.execute(insert(tombstones), rows)
    return mine


def compact(database: Database) -> bool:
    """Remove what deleted rows left in the files, if any did; False if it must be tried again."""
    with database.read() as connection:
        due = get(connection, DUE)
    if due is None:
        return True
    if not database.compact():
        return False
    with database.write() as connection:
        if get(connection, DUE) == due:  # else another process deleted more meanwhile
            put(connection, DUE, None)
    return True


def receipts(connection: Connection, *hashes: str, after: int = -1) -> list[Erasure]:
    """The receipts of users erased later than `after`, oldest first; of some hashes or of all."""
    names = [name for name in Erasure._fields if name != "compacted"]
    query = select(*(tombstones.c[name] for name in names)).where(
        tombstones.c.user_hash.is_(None), tombstones.c.at > after
    )
    if hashes:
        query = query.where(tombstones.c.hash.in_(hashes))
    compacted = get(connection, DUE) is None
    rows = connection.execute(query.order_by(tombstones.c.at))
    return [Erasure(**row, compacted=compacted) for row in rows.mappings()]


def _purge(connection: Connection, table: Table, user_id: str) -> int:
    theirs = select(identities.c.visitor_id).where(identities.c.user_id == user_id)
    either = or_(table.c.user_id == user_id, table.c.visitor_id.in_(theirs))
    return connection.execute(delete(table).where(either)).rowcount
