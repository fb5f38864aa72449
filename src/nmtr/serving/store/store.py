"""The store of the service: what happened, what was shown, who is who, what is in stock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import polars as pl
from sqlalchemy import Connection

from nmtr.errors import UsageError
from nmtr.serving.store import erasure, identities, reading, stock
from nmtr.serving.store.database import Database
from nmtr.serving.store.ingest import ingest
from nmtr.serving.store.postgres import Postgres
from nmtr.serving.store.records import Erasure, Event, Exposure, Receipt, Stored
from nmtr.serving.store.schema import upgrade
from nmtr.serving.store.sqlite import Sqlite
from nmtr.serving.store.stock import Stock
from nmtr.serving.store.tombstones import Kind, Tombstones, read_key
from nmtr.serving.store.values import highest_seq
from nmtr.serving.store.writer import Ingest, Writer

T = TypeVar("T")
WAITING = 20_000  # rows that may wait to be stored
RETIRED = 30  # days within which what was made from an erased person's events must be retired


class Store:
    """One store, for all threads of a process; other processes may have it open too.

    Every method may raise the errors of `nmtr.serving.store.errors`. What a method that writes has
    returned, or its future has, is on the disk.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        key: bytes | None = None,
        waiting: int = WAITING,
        retired: int = RETIRED,
    ) -> None:
        """Open a store or make one: a file for SQLite, or a URL of PostgreSQL.

        key: of the hashes by which erased persons are known; by default in a file beside the
        SQLite file, made once. PostgreSQL has no such place and needs it. waiting: rows that may
        wait before calls get BusyError. Raises UsageError, DamagedError for a store that is
        damaged, of a newer nmtr or of another key, and StoreError where it cannot be opened.
        """
        self._retired = retired
        url = str(where)
        if "://" in url and not url.startswith("postgres"):
            raise UsageError("expected a file's path or postgresql://..., got another kind of URL")
        remote = "://" in url
        if key is None and remote:
            raise UsageError("a store in PostgreSQL needs an erasure key; give one for all servers")
        path = Path(where)
        beside = path.with_name(f"{path.name}.key")
        self._erased = Tombstones(key or read_key(beside, make=not path.exists()))
        self._database: Database = (
            Postgres(url, check=self._check) if remote else Sqlite(path, check=self._check)
        )
        self._writer = Writer(self._ingest, limit=waiting)
        try:
            self.compact()  # where an erasure was cut off
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Store what waits, then let go of the database."""
        self._writer.close()
        self._database.close()

    @property
    def waiting(self) -> int:
        """Rows that were given and are not stored yet."""
        return self._writer.waiting

    # events

    def submit(self, events: Sequence[Event]) -> Future[Receipt]:
        """Take one call's events, all or none; the future has the receipt once they are durable.

        An event whose id is there already is stored once: it is a duplicate if it says the same,
        else a conflict, and what was there stays. Raises BusyError, and DataError for too many.
        """
        return self._writer.ingest(Ingest(events=tuple(events)))

    def append(self, events: Sequence[Event]) -> Receipt:
        """Store events and wait until they are durable."""
        return self.submit(events).result()

    def history(
        self,
        *,
        user_id: str | None = None,
        visitor_id: str | None = None,
        after: int = 0,
        limit: int = 10_000,
    ) -> list[Stored]:
        """The newest `limit` events of a user or a visitor with seq > `after`, oldest first.

        A user's include those of the visitors merged into them, whole if that was after `after`; a
        visitor's are the visitor's own.
        """
        with self._database.read() as connection:
            if user_id is not None and visitor_id is None:
                return reading.of_user(connection, user_id, after=after, limit=limit)
            if visitor_id is not None and user_id is None:
                return reading.of_visitor(connection, visitor_id, after=after, limit=limit)
        raise UsageError("expected either a user_id or a visitor_id, got both or none")

    def active(
        self, *, users: Collection[str] = (), visitors: Collection[str] = ()
    ) -> tuple[set[str], set[str]]:
        """Of several persons, those whose `history` is not empty; a visitor may bring a user in."""
        return self._read(lambda connection: reading.active(connection, users, visitors))

    def last_seq(self) -> int:
        """The highest number so far; every event up to it can be read, and every merge counts."""
        return self._read(highest_seq)

    def frames(
        self, *, after: int = 0, up_to: int | None = None, rows: int = reading.ROWS
    ) -> Iterator[pl.DataFrame]:
        """Events with `after` < seq <= `up_to` (by default the last), `rows` at a time.

        user_id is that of the user a visitor belongs to by now; a visitor who belongs to nobody has
        a visitor_id only. What is appended meanwhile, or erased, does not disturb it.
        """
        last = self.last_seq() if up_to is None else up_to
        return reading.event_frames(self._database, after=after, up_to=last, rows=rows)

    def write_events(self, folder: Path, *, after: int = 0, up_to: int | None = None) -> int:
        """Write what `frames` gives as Parquet files in a folder of their own; the number."""
        last = self.last_seq() if up_to is None else up_to
        return reading.write_events(self._database, folder, after=after, up_to=last)

    def counts(self, *, after: int = 0, up_to: int | None = None) -> pl.DataFrame:
        """Events of each UTC day and behaviour: day, behavior, events."""
        last = self.last_seq() if up_to is None else up_to
        return reading.counts(self._database, after=after, up_to=last)

    # exposures

    def show(self, exposure: Exposure) -> Future[Receipt]:
        """Remember a response; nobody need wait for the future, which ends when it is durable.

        Events of this process that are acknowledged later are stored no earlier. Raises BusyError.
        """
        return self._writer.ingest(Ingest(exposures=(exposure,)))

    def exposures(
        self, *, after: int = 0, up_to: int | None = None, rows: int = reading.ROWS
    ) -> Iterator[pl.DataFrame]:
        """Exposures with `after` < seq <= `up_to`, numbers of their own, `rows` at a time."""
        last = reading.LAST if up_to is None else up_to
        return reading.exposure_frames(self._database, after=after, up_to=last, rows=rows)

    # identities

    def merge(self, *, visitor_id: str, user_id: str) -> identities.Merge:
        """Give a visitor's events to a user: "merged", or "unchanged" if it was so already.

        Raises IdentityConflictError where they are another user's, ErasedError for who was erased.
        """
        return self._write(
            lambda connection: identities.merge(
                connection, visitor_id, user_id, erased=self._erased
            )
        )

    def owner(self, visitor_id: str) -> str | None:
        """The user a visitor belongs to; None while it is nobody's."""
        return self._read(lambda connection: identities.owner_of(connection, visitor_id))

    # erasure

    def erase(self, user_id: str) -> Erasure:
        """Erase a user, and the visitors merged into them, from the store and from its files.

        A repeat gives the first receipt, and compacts again where that is due.
        """
        mine = self._write(
            lambda connection: erasure.purge(
                connection, user_id, erased=self._erased, days=self._retired
            )
        )
        self.compact()
        return self._read(lambda connection: erasure.receipts(connection, mine)[0])

    def compact(self) -> bool:
        """Do what an erasure still owes the files; False while readers or others are in the way."""
        return self._writer.alone(lambda: erasure.compact(self._database))

    def erasures(self, *, after: int = -1) -> list[Erasure]:
        """The receipts of those erased later than the time `after`, oldest first."""
        return self._read(lambda connection: erasure.receipts(connection, after=after))

    def honour(
        self, frame: pl.DataFrame, *, column: str = "user_id", kind: Kind = "user"
    ) -> pl.DataFrame:
        """A frame without the rows of erased persons; ids that are no text count as their text."""
        ids = frame[column].drop_nulls().unique().cast(pl.String)
        gone = self._read(
            lambda connection: self._erased.erased(connection, ((kind, each) for each in ids))
        )
        erased = pl.col(column).cast(pl.String).is_in([each for _, each in gone])
        return frame.filter(~erased.fill_null(False))

    # stock

    def stock(self) -> Stock:
        """What is in stock."""
        return self._read(stock.read)

    def stock_version(self) -> int:
        """A number that changes with the stock list; cheap to ask for."""
        return self._read(stock.version)

    def replace_stock(self, items: Iterable[str]) -> int:
        """Make `items` the stock list; the new version."""
        return self._write(lambda connection: stock.replace(connection, items))

    def patch_stock(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> int:
        """Add and remove items; the new version. Raises UsageError where there is no list."""
        return self._write(lambda connection: stock.patch(connection, add, remove))

    def drop_stock(self) -> int:
        """Have no stock list: everything is in stock; the new version."""
        return self._write(stock.drop)

    def _check(self, connection: Connection, where: str) -> None:
        upgrade(connection, where=where)
        self._erased.check(connection, where=where)

    def _ingest(self, calls: Sequence[Ingest]) -> list[Receipt]:
        with self._database.write() as connection:
            return ingest(connection, calls, erased=self._erased)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._database.read() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._database.write() as connection:
                return work(connection)

        return self._writer.alone(transaction)
