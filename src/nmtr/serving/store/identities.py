"""Visitors who logged in: whose events theirs are from then on."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, insert, select

from nmtr.serving.store.errors import ErasedError, IdentityConflictError
from nmtr.serving.store.records import check_text, now
from nmtr.serving.store.schema import identities
from nmtr.serving.store.tombstones import Person, Tombstones
from nmtr.serving.store.values import take_seq

Merge = Literal["merged", "unchanged"]


def merge(connection: Connection, visitor_id: str, user_id: str, *, erased: Tombstones) -> Merge:
    """Give a visitor's events, past and to come, to a user.

    The first user a visitor is given to stays, another raises IdentityConflictError; a repeat
    changes nothing. A visitor is never given to a visitor, so that there are no chains. Raises
    ErasedError for an erased user or visitor.
    """
    check_text("visitor_id", visitor_id)
    check_text("user_id", user_id)
    both: tuple[Person, Person] = (("user", user_id), ("visitor", visitor_id))
    if gone := erased.erased(connection, both):
        raise ErasedError(
            f"the {', the '.join(kind for kind, _ in gone)} was erased; nothing was merged"
        )
    owner = owner_of(connection, visitor_id)
    if owner == user_id:
        return "unchanged"
    if owner is not None:
        raise IdentityConflictError(
            "the visitor already belongs to another user; give a device a new visitor id when its "
            "user logs out"
        )
    row = {"visitor_id": visitor_id, "user_id": user_id, "seq": take_seq(connection), "at": now()}
    connection.execute(insert(identities), row)
    return "merged"


def owner_of(connection: Connection, visitor_id: str) -> str | None:
    """The user whom a visitor belongs to."""
    query = select(identities.c.user_id).where(identities.c.visitor_id == visitor_id)
    return connection.execute(query).scalar()
