"""The store in PostgreSQL, for several machines or for what one file does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection, IsolationLevel
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from nmtr.errors import DamagedError, UsageError
from nmtr.serving.store import schema
from nmtr.serving.store.database import WAIT, Check, translated
from nmtr.serving.store.errors import (
    BusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

DRIVER = "postgresql+psycopg"
LOCK = 0x6E6D7472  # of the advisory lock that lets one writer in at a time
PURGED = (schema.events, schema.exposures, schema.identities)
ON_CONNECT = f"SET synchronous_commit = on; SET lock_timeout = {int(WAIT * 1000)}"
CONNECT = {"connect_timeout": int(WAIT), "tcp_user_timeout": int(2 * WAIT * 1000)}

BUSY = ("40001", "40P01", "53300", "55P03", "57014")
FULL = ("53100",)
READ_ONLY = ("25006",)
DAMAGED = ("XX001", "XX002")


class Postgres:
    """A store in a database of its own or in tables `nmtr_*` of one; many servers may share it."""

    def __init__(self, url: str, *, check: Check) -> None:
        """Connect and make the tables; `check` is called on a connection that may write.

        Raises UsageError for what is no such URL, StoreError where commits would not be durable.
        """
        self._writing = _engine(url, isolation="READ COMMITTED")  # sees what the lock waited for
        self._reading = _engine(url, isolation="REPEATABLE READ")
        self.where = self._writing.url.render_as_string(hide_password=True)
        try:
            with self.write() as connection:
                self._refuse_unsynced(connection)
                check(connection, self.where)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with translated(self._reason, self.where), self._writing.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with translated(self._reason, self.where), self._reading.begin() as connection:
            yield connection

    def compact(self) -> bool:
        """Rewrite the tables that had persons in them; the old files go with the commit."""
        try:
            with translated(self._reason, self.where), self._writing.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                for table in PURGED:
                    connection.execute(text(f"VACUUM (FULL, ANALYZE) {table.name}"))
        except BusyError:
            return False
        return True

    def close(self) -> None:
        self._reading.dispose()
        self._writing.dispose()

    def _refuse_unsynced(self, connection: Connection) -> None:
        if connection.execute(text("SHOW fsync")).scalar() != "on":
            raise StoreError(
                f"{self.where}: expected fsync = on, got off; an acknowledged event would not "
                "survive a loss of power; turn it on in postgresql.conf"
            )

    def _reason(self, error: DBAPIError) -> Exception:
        """The store's error for one of PostgreSQL's."""
        state = getattr(error.orig, "sqlstate", None)
        about = f"{self.where}: {str(error.orig).strip().splitlines()[0]}"
        if state in BUSY:
            return BusyError(f"{about}; try again")
        if state in FULL:
            return StoreFullError(f"{about}; make room, nothing was stored")
        if state in READ_ONLY:
            return StoreReadOnlyError(f"{about}; nothing was stored")
        if state in DAMAGED:
            return DamagedError(f"{about}; restore the database from a copy")
        if error.connection_invalidated or state is None or state[:2] in ("08", "57"):
            return StoreUnavailableError(about)
        return StoreError(about)


def _engine(url: str, *, isolation: IsolationLevel) -> Engine:
    try:
        engine = create_engine(
            make_url(url).set(drivername=DRIVER),
            isolation_level=isolation,
            pool_size=8,
            max_overflow=24,
            pool_timeout=WAIT,
            pool_pre_ping=True,  # or the first call after a restart of the server would fail
            hide_parameters=True,  # ids, which a log must not hold
            connect_args=CONNECT,
        )
    except ModuleNotFoundError as error:
        raise UsageError(
            "a store in PostgreSQL needs its driver; install it with `pip install 'nmtr[postgres]'`"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "expected a URL such as postgresql://user@host/database, got one that cannot be read"
        ) from error

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(ON_CONNECT)
        cursor.close()
        connection.commit()

    return engine
