"""The list of what is in stock; its version tells a server that it has changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from nmtr.errors import UsageError
from nmtr.serving.store.database import parts
from nmtr.serving.store.records import check_text
from nmtr.serving.store.schema import stock
from nmtr.serving.store.values import get, put

VERSION, LISTED = "stock_version", "stock_listed"


class Stock(NamedTuple):
    """items: what is in stock; None where no list was given, and all of the catalogue is."""

    version: int
    items: frozenset[str] | None


def version(connection: Connection) -> int:
    """How many times the list has changed."""
    return int(get(connection, VERSION) or 0)


def read(connection: Connection) -> Stock:
    """The list as it is."""
    if get(connection, LISTED) is None:
        return Stock(version(connection), None)
    return Stock(version(connection), frozenset(_listed(connection)))


def replace(connection: Connection, items: Iterable[str]) -> int:
    """Make `items` the list; only what differs is written. The new version."""
    new, old = set(items), set(_listed(connection))
    return _change(connection, new - old, old - new)


def patch(connection: Connection, add: Iterable[str], remove: Iterable[str]) -> int:
    """Add and remove items of the list there is; one in both is in. The new version.

    Raises UsageError where there is no list.
    """
    if get(connection, LISTED) is None:
        raise UsageError("there is no stock list to change; give a whole one first")
    new = set(add)
    return _change(connection, new - _among(connection, new), set(remove) - new)


def drop(connection: Connection) -> int:
    """Have no list: everything is in stock again. The new version."""
    connection.execute(delete(stock))
    return _changed(connection, listed=None)


def _change(connection: Connection, add: Collection[str], remove: Collection[str]) -> int:
    for item in add:
        check_text("item_id", item)
    for part in parts(remove):
        connection.execute(delete(stock).where(stock.c.item_id.in_(part)))
    if add:
        connection.execute(insert(stock), [{"item_id": item} for item in add])
    return _changed(connection, listed="yes")


def _changed(connection: Connection, *, listed: str | None) -> int:
    new = version(connection) + 1
    put(connection, VERSION, str(new))
    put(connection, LISTED, listed)
    return new


def _listed(connection: Connection) -> Iterable[str]:
    return connection.execute(select(stock.c.item_id)).scalars()


def _among(connection: Connection, items: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for part in parts(items):
        found |= set(
            connection.execute(select(stock.c.item_id).where(stock.c.item_id.in_(part))).scalars()
        )
    return found
