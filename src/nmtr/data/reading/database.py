"""Rows of a database by SQLAlchemy: PostgreSQL, SQLite and whatever else has a dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import polars as pl

from nmtr.data.reading.columns import Roles, find_roles
from nmtr.data.reading.faults import Block, Faults
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.places import Place, hide
from nmtr.data.reading.sources import Source
from nmtr.errors import DataError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.engine import CursorResult

BATCH = 50_000  # rows that are in memory as Python objects at once
WAIT = 10  # seconds for a server to answer
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}
_PACKAGES = {"psycopg": "nmtr[postgres]", "sqlalchemy": "nmtr[sql]"}
_PLAIN = (bool, int, float, str, bytes, date, datetime, Decimal)


def read_database(source: Source, options: ReadOptions, *, faults: Faults) -> Iterator[Block]:
    """Blocks of rows of a query, or of a table or view, through a cursor on the server.

    Nothing is written: where the database can be told so, it is. Raises UsageError for a URL that
    is none, a missing package or table, DataError for what the database refuses.
    """
    if not isinstance(source.path, Place):
        raise AssertionError(f"{source.path} is no database")
    with _explained(source.path):
        engine = _engine(source.path)
        try:
            with engine.connect() as connection:
                yield from _blocks(connection, source, options, faults=faults)
        finally:
            engine.dispose()


def _blocks(
    connection: Connection, source: Source, options: ReadOptions, *, faults: Faults
) -> Iterator[Block]:
    name, of_one = source.name, bool(source.behavior)
    flags: dict[str, Any] = {"stream_results": True, "max_row_buffer": BATCH}
    if connection.dialect.name == "postgresql":
        connection = connection.execution_options(postgresql_readonly=True)
    if options.table is not None:
        columns = _columns(connection, options.table, source=name)
        roles = find_roles(columns, options, source=name, of_one=of_one)
        statement = _select(options.table, roles)
        result = connection.execution_options(**flags).execute(statement)
    else:
        # Without parameters, so that `%` and `:` in a query are what they are.
        flags["no_parameters"] = True
        result = connection.exec_driver_sql(options.query or "", execution_options=flags)
        if not result.returns_rows:
            raise UsageError(f"{name}: expected a --query that gives rows, such as SELECT ...")
        roles = find_roles(list(result.keys()), options, source=name, of_one=of_one)
    yield from _batches(result, roles, source=name, faults=faults)


def _batches(
    result: CursorResult[Any], roles: Roles, *, source: str, faults: Faults
) -> Iterator[Block]:
    names = list(result.keys())
    first = 0
    for rows in result.partitions(BATCH):
        values = dict(zip(names, zip(*rows, strict=True), strict=True))
        frame = pl.DataFrame([_series(name, values[own]) for name, own in roles.items()])
        faults.rows_read += frame.height
        yield Block(frame, source, first, unit="row")
        first += frame.height


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    """One column of a batch; values of a type that is no plain one (UUID), or of several, as text.

    A database may hold 5 and 5.5 in one column; whole numbers among floats are floats.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float}:
        return pl.Series(name, [None if value is None else float(value) for value in values])
    if len(kinds) > 1 or not kinds <= set(_PLAIN):
        return pl.Series(name, [None if value is None else str(value) for value in values])
    return pl.Series(name, values)


def _columns(connection: Connection, table: str, *, source: str) -> list[str]:
    from sqlalchemy import inspect
    from sqlalchemy.exc import NoSuchTableError

    schema, name = _named(table)
    inspector = inspect(connection)
    try:
        return [column["name"] for column in inspector.get_columns(name, schema=schema)]
    except NoSuchTableError:
        there = [
            *inspector.get_table_names(schema=schema),
            *inspector.get_view_names(schema=schema),
        ]
        raise UsageError(
            f"{source}: --table {table!r} is not there, or not to be seen by this user; the tables "
            f"are {sorted(there)[:30]}"
        ) from None


def _select(table: str, roles: Roles) -> Any:
    from sqlalchemy import column, select
    from sqlalchemy import table as named

    schema, name = _named(table)
    columns: list[Any] = [column(own) for _, own in roles.items()]
    return select(*columns).select_from(named(name, *columns, schema=schema))


def _named(table: str) -> tuple[str | None, str]:
    schema, mark, name = table.rpartition(".")
    return (schema, name) if mark else (None, name)


def _engine(place: Place) -> Engine:
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import NullPool

    try:
        url = make_url(place.url)
    except ValueError as error:  # of a port that is no number
        raise ArgumentError("") from error
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
        arguments["connect_timeout"] = WAIT
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        url = _read_only(url, place)
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)


def _read_only(url: URL, place: Place) -> URL:
    """A file that is there, opened so that it cannot be written; SQLite would make a new one."""
    path = Path(url.database or "").expanduser()
    if not path.is_file():
        raise UsageError(
            f"{place}: expected a SQLite file, found none at {path.absolute()}; three slashes lead "
            "to a relative path, four to an absolute one"
        )
    file = f"file:{quote(str(path.absolute()))}"
    return url.set(database=file, query={"mode": "ro", "uri": "true"})


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    """Errors of SQLAlchemy and of drivers as ours, without passwords."""
    try:
        from sqlalchemy import exc
    except ImportError as error:
        raise _missing(place, "sqlalchemy") from error
    try:
        yield
    except exc.NoSuchModuleError as error:
        raise UsageError(
            f"{place}: expected a file system that fsspec knows (s3, gs, hdfs, ...) or a database "
            f"that SQLAlchemy knows; {_first_line(error, place)}"
        ) from None
    except ModuleNotFoundError as error:
        raise _missing(place, str(error.name)) from error
    except exc.ArgumentError:  # its text is the URL
        raise UsageError(
            f"{place}: expected a URL such as postgresql://user@host/database, got one that cannot "
            "be read"
        ) from None
    except exc.DBAPIError as error:
        raise DataError(f"{place}: {_first_line(error.orig, place)}") from None
    except exc.SQLAlchemyError as error:
        raise DataError(f"{place}: {_first_line(error, place)}") from None


def _missing(place: Place, module: str) -> UsageError:
    package = _PACKAGES.get(module, module)
    return UsageError(
        f"{place}: reading this database needs the package {module}, which is not installed; "
        f"`pip install '{package}'`"
    )


def _first_line(error: object, place: Place) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return hide(lines[0] if lines else type(error).__name__, place.url)
