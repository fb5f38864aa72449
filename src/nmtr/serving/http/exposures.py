"""What was shown, on its way to the store: gathered a moment, as a commit each costs too much."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from nmtr.serving.http.problems import Overloaded
from nmtr.serving.store import Exposure, Receipt, Store, StoreError

EVERY = 0.05  # seconds
MOST = 5_000  # lists that may wait


class Exposures:
    """Remembers lists. `lost` is called for each that could not be stored."""

    def __init__(self, store: Store, lost: Callable[[], None]) -> None:
        self.store, self._lost = store, lost
        self._gathered: list[Exposure] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nmtr-shown", daemon=True)
        self._thread.start()

    def add(self, exposure: Exposure) -> None:
        """Remember a list soon; raises Overloaded where too many wait."""
        if len(self._gathered) >= MOST:
            raise Overloaded("the store does not keep up with the lists that are shown")
        self._gathered.append(exposure)

    def flush(self) -> None:
        """Give the store what has gathered: events that come later are stored no earlier."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
            for number, each in enumerate(gathered):
                try:
                    self.store.show(each).add_done_callback(self._stored)
                except StoreError:  # it is busy: the rest waits for the next time
                    self._gathered = gathered[number:] + self._gathered
                    return

    def settle(self) -> None:
        """Wait until what has gathered is stored."""
        self.flush()
        self.store.append(())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            if self._gathered:
                self.flush()

    def _stored(self, future: Future[Receipt]) -> None:
        if future.exception() is not None:
            self._lost()
