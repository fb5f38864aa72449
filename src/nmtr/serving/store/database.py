"""What the store asks of a database: ordered writes, reads beside them, errors with reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from nmtr.serving.store.errors import BusyError, StoreError

AT_ONCE = 1000  # values in one statement
WAIT = 5.0  # seconds that a lock, or a connection, is waited for
T = TypeVar("T")
Check = Callable[[Connection, str], None]  # of a connection to what is named


class Database(Protocol):
    """SQLite or PostgreSQL.

    Writes exclude each other, across processes too, so that the numbers which rows get have the
    order in which they can be seen: a reader who has seen one number never misses a smaller one.
    """

    where: str

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that may write; when it has been left without an error it is durable."""
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one moment of the store."""
        ...

    def compact(self) -> bool:
        """Rewrite the tables without what was deleted; False where others were in the way."""
        ...

    def close(self) -> None: ...


@contextmanager
def translated(translate: Callable[[DBAPIError], Exception], where: str) -> Iterator[None]:
    """Turn the errors of SQLAlchemy and its drivers into those of the store."""
    try:
        yield
    except DBAPIError as error:
        raise translate(error) from error
    except TimeoutError as error:
        raise BusyError(
            f"{where}: every connection was in use for {WAIT:g} s; try again"
        ) from error
    except SQLAlchemyError as error:
        raise StoreError(f"{where}: {error}") from error


def parts(values: Iterable[T]) -> Iterator[list[T]]:
    """Values in lists that are short enough for one statement."""
    rest = iter(values)
    while part := list(islice(rest, AT_ONCE)):
        yield part
