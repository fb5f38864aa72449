"""The one thread that writes: calls that wait together are committed together.

While one transaction is being synced to the disk the next calls gather, so that many callers share
each sync and a single one waits for nobody. Calls are stored in the order in which they came.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nmtr.errors import DataError
from nmtr.serving.store.errors import BusyError, StoreUnavailableError
from nmtr.serving.store.records import Event, Exposure, Receipt

T = TypeVar("T")
TOGETHER = 4096  # rows of one transaction, more only where a single call has more


@dataclass(frozen=True, slots=True)
class Ingest:
    """A call that adds rows: all of them or none."""

    events: Sequence[Event] = ()
    exposures: Sequence[Exposure] = ()
    future: Future[Receipt] = field(default_factory=Future)

    @property
    def size(self) -> int:
        return len(self.events) + len(self.exposures)


@dataclass(frozen=True, slots=True)
class Alone:
    """A call that makes its own transaction, after those before it and before those behind it."""

    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    size: int = 1


class Writer:
    """A bounded queue and the thread that empties it."""

    def __init__(
        self, ingest: Callable[[Sequence[Ingest]], Sequence[Receipt]], *, limit: int
    ) -> None:
        """ingest: stores calls in one transaction, and returns their receipts once it is durable.

        limit: rows that may wait; exposures may take half of it.
        """
        self._ingest, self.limit = ingest, limit
        self._calls: deque[Ingest | Alone] = deque()
        self._rows = self._exposures = 0
        self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="nmtr-store", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that were given and are not committed."""
        return self._rows

    def ingest(self, call: Ingest) -> Future[Receipt]:
        """Take a call; the future has its receipt after the commit.

        Raises DataError for more rows than can ever wait, BusyError for more than can wait now,
        StoreUnavailableError after `close`.
        """
        if call.size > self.limit // 2:
            raise DataError(
                f"expected at most {self.limit // 2:,} rows in a call, got {call.size:,}; split it"
            )
        self._put(call, exposures=len(call.exposures))
        return call.future

    def alone(self, work: Callable[[], T]) -> T:
        """Run `work` between the transactions of others, and wait for it."""
        call = Alone(work)
        self._put(call, exposures=0)
        result: T = call.future.result()
        return result

    def close(self) -> None:
        """Store what waits, then end the thread."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _put(self, call: Ingest | Alone, *, exposures: int) -> None:
        with self._news:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            crowded = exposures and self._exposures + exposures > self.limit // 2
            if crowded or self._rows + call.size > self.limit:
                raise BusyError(
                    f"{self._rows:,} rows wait to be stored; send these again in a moment"
                )
            self._rows += call.size
            self._exposures += exposures
            call.future.set_running_or_notify_cancel()  # from here on it cannot be taken back
            self._calls.append(call)
            self._news.notify()

    def _run(self) -> None:
        while calls := self._next():
            try:
                results = self._store(calls)
            except BaseException as error:  # whatever it is, the callers must hear of it
                self._done(calls)
                for call in calls:
                    call.future.set_exception(error)
            else:
                self._done(calls)
                for call, result in zip(calls, results, strict=True):
                    call.future.set_result(result)

    def _store(self, calls: Sequence[Ingest | Alone]) -> Sequence[Any]:
        first = calls[0]
        if isinstance(first, Alone):
            return [first.work()]
        return self._ingest([each for each in calls if isinstance(each, Ingest)])

    def _next(self) -> list[Ingest | Alone]:
        """The calls of one transaction; none when the store is closed and all is stored."""
        with self._news:
            self._news.wait_for(lambda: self._calls or self._closed)
            found: list[Ingest | Alone] = []
            rows = 0
            while self._calls:
                call = self._calls[0]
                full = rows + call.size > TOGETHER
                if found and (full or isinstance(call, Alone)):
                    break
                rows += call.size
                found.append(self._calls.popleft())
                if isinstance(call, Alone):
                    break
            return found

    def _done(self, calls: Sequence[Ingest | Alone]) -> None:
        with self._news:
            for call in calls:
                self._rows -= call.size
                if isinstance(call, Ingest):
                    self._exposures -= len(call.exposures)
