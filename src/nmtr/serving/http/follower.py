"""Follows the store, as other servers write to it too: what changed, and whether it is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from nmtr.errors import NmtrError
from nmtr.serving.http.live import Live, Person
from nmtr.serving.store import Store
from nmtr.serving.store.stock import Stock

EVERY = 0.25  # seconds
MANY = 10_000  # events, after which everything is read anew
LOOKS = 20  # after which it asks who was erased
log = logging.getLogger("nmtr.serve")


class Follower:
    """A thread that looks at the store every quarter of a second.

    stocked: called with each new stock list. error: why the store could not last be read.
    """

    def __init__(self, store: Store, live: Live, stocked: Callable[[Stock], object]) -> None:
        self.store, self.live, self._stocked = store, live, stocked
        self.error: NmtrError | None = None
        self._seq = store.last_seq()
        self._looks = self._erased = 0
        self._stock = -1
        self._stop = threading.Event()
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="nmtr-follow", daemon=True)

    def start(self) -> None:
        self.look()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Take over what is new; raises the store's errors."""
        with self._looking:
            if self._looks % LOOKS == 0:
                self._erasures()
            self._looks += 1
            self._events()
            if self.store.stock_version() != self._stock:
                stock = self.store.stock()
                self._stocked(stock)
                self._stock = stock.version

    def _erasures(self) -> None:
        count = len(self.store.erasures())
        self.live.any_erased = bool(count)
        if count != self._erased:
            self.live.forget_all()
            self._erased = count

    def _events(self) -> None:
        last = self.store.last_seq()
        if last == self._seq:
            return
        met: set[Person] = set()
        count = 0
        if last - self._seq <= MANY:
            for frame in self.store.frames(after=self._seq, up_to=last):
                count += frame.height
                met |= {Person("user", each) for each in frame["user_id"].drop_nulls()}
                met |= {Person("visitor", each) for each in frame["visitor_id"].drop_nulls()}
        if count == last - self._seq:
            self.live.forget(met)
        else:  # too many, or numbers that no event has: visitors were merged, persons erased
            self.live.forget_all()
        self._seq = last

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.look()
            except NmtrError as error:
                if self.error is None:
                    log.warning("the store cannot be read: %s", type(error).__name__)
                self.error = error
            except Exception as error:
                log.exception("following the store failed")
                self.error = NmtrError(type(error).__name__)
            else:
                if self.error is not None:
                    log.info("the store can be read again")
                self.error = None
