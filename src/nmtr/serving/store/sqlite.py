"""The embedded store: one SQLite file in WAL mode, each commit synced before it returns."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from nmtr.errors import DamagedError, UsageError
from nmtr.serving.store.database import WAIT, Check, translated
from nmtr.serving.store.errors import (
    BusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

APPLICATION = 0x6E6D7472  # "nmtr", in the file's header
CHECKED = 256 * 2**20  # bytes up to which a file is checked whole when it is opened
ROOM = 2**20  # bytes of a disk that count as none
CODES = 0xFF  # the part of an extended result code that is the plain one
MOVED = 8 | 4 << 8  # SQLITE_READONLY_DBMOVED; this Python may not name it
PRAGMAS = (
    "synchronous=FULL",
    "secure_delete=ON",
    f"busy_timeout={int(WAIT * 1000)}",
    "journal_size_limit=67108864",
    "cache_size=-16384",
)
Identity = tuple[int, ...]  # of the files at a path; none where one is missing


class Sqlite:
    """A store in one file, for one machine; several processes may share it."""

    def __init__(self, path: Path, *, check: Check) -> None:
        """Open the file or make it; `check` is called on a connection that may write."""
        self.path, self.where, self._check = path, str(path), check
        self._log = f"{path}-wal"
        self._lock = threading.Lock()
        self._reading, self._writing = self._engine("BEGIN"), self._engine("BEGIN IMMEDIATE")
        self._writer: Connection | None = None
        self._written: Identity = ()
        self._read: Identity = ()
        try:
            with self._translated():
                self._open()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction of the one connection that writes; of one thread at a time."""
        with self._translated():
            writer = self._renewed()
            with writer.begin():
                yield writer
            if self._present() != self._written:
                raise self._gone()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._translated():
            if self._present() != self._read:
                self._renew_readers()
            with self._reading.begin() as connection:
                yield connection

    def compact(self) -> bool:
        """Rewrite the file, and empty the write-ahead log, which holds what was in it before."""
        with self._translated():
            connection = self._renewed().connection
            try:
                cursor = connection.cursor()
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                blocked = cursor.fetchall()[0][0]
            except sqlite3.Error as error:
                if isinstance(self._reason(error), BusyError | StoreFullError):
                    return False
                raise
            return not blocked

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writing.dispose()
        self._reading.dispose()

    def _engine(self, begin: str) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=8,
            max_overflow=24,
            pool_timeout=WAIT,
            hide_parameters=True,  # ids, which a log must not hold
            pool_reset_on_return=None,  # every transaction is ended where it is begun
        )

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.connection.cursor().execute(begin)  # SQLAlchemy's own way takes 40 us more

        return engine

    def _connect(self, mode: str = "rw") -> sqlite3.Connection:
        """A connection to a file that is there; a lost file is never made anew without a word."""
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?mode={mode}",
            uri=True,
            timeout=WAIT,
            isolation_level=None,  # transactions begin where the engine says so
            check_same_thread=False,  # the pool gives it to one thread at a time
        )
        try:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        """Make the file where there is none; refuse one that is damaged or somebody else's."""
        new = not self.path.exists()
        if self.path.is_dir():
            raise UsageError(f"{self.path} is a folder; name a file in it for the store")
        if new:
            with suppress(OSError):  # SQLite says it better
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))  # its owner's alone
        with closing(self._connect("rwc" if new else "rw")) as connection:
            self._recognise(connection)
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self.where}: expected a disk that allows SQLite's WAL mode")
        if new:
            _sync_folder(self.path.parent)

    def _recognise(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application not in (0, APPLICATION) or (tables and not application):
            raise DamagedError(
                f"{self.where} is a SQLite file of another program; name another file"
            )
        if self.path.stat().st_size <= CHECKED:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise self._damaged(found)
        if not application:
            connection.execute(f"PRAGMA application_id={APPLICATION}")

    def _open(self) -> None:
        self._prepare()
        writer = self._writing.connect()
        try:
            with writer.begin():
                self._check(writer, self.where)
        except BaseException:
            writer.close()
            raise
        self._writer, self._written = writer, self._present()

    def _renewed(self) -> Connection:
        """The writing connection, made again where the file was taken away and has come back.

        A connection to a file that is no longer at its path would go on without an error.
        """
        if self._writer is not None and self._present() == self._written:
            return self._writer
        self.close()
        self._writer = None
        if not self.path.exists():
            raise self._gone()
        self._open()
        return self._renewed()

    def _renew_readers(self) -> None:
        with self._lock:
            self._reading.dispose()
            if not self.path.exists():
                raise self._gone()
            self._read = self._present()

    def _present(self) -> Identity:
        """Which files lie at the store's path now: the database and its write-ahead log."""
        try:
            file, log = os.stat(self.path), os.stat(self._log)
        except OSError:
            return ()
        return file.st_dev, file.st_ino, log.st_ino

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(lambda error: self._reason(error.orig), self.where):
            try:
                yield
            except sqlite3.Error as error:  # of the driver, where SQLAlchemy is passed by
                raise self._reason(error) from error

    def _reason(self, error: BaseException | None) -> Exception:
        """The store's error for one of SQLite's."""
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & CODES
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            return BusyError(f"{self.where}: locked by another process for {WAIT:g} s; try again")
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._no_room()):
            return StoreFullError(f"{self.where}: {error}; make room, nothing was stored")
        read_only = code == sqlite3.SQLITE_READONLY and extended != MOVED
        if read_only or (code == sqlite3.SQLITE_CANTOPEN and self._no_permission()):
            return StoreReadOnlyError(f"{self.where}: {error}; nothing was stored")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._damaged(error)
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
            return StoreUnavailableError(f"{self.where}: {error}")
        return StoreError(f"{self.where}: {error}")

    def _no_room(self) -> bool:
        folder = self.path.parent
        return folder.exists() and shutil.disk_usage(folder).free < ROOM

    def _no_permission(self) -> bool:
        """Whether the folder cannot be written, where a log must lie beside the file."""
        folder = self.path.parent
        return folder.exists() and not os.access(folder, os.W_OK)

    def _damaged(self, reason: Any) -> DamagedError:
        return DamagedError(
            f"{self.where} is damaged ({reason}); restore a copy of it, or name another file"
        )

    def _gone(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.where} is no longer the file that was opened; put it back, or start again to "
            "make a new one"
        )


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
