"""How much one client may ask for: a token bucket for each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

CLIENTS = 10_000  # whose buckets are kept; those unused longest go first
BURST = 2.0  # seconds' worth that may come at once


class Buckets:
    """`rate` requests a second for each client, on average; 0 for any number.

    clock: seconds that never go back, whatever the wall clock does.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.size, self._clock = rate, max(1.0, rate * BURST), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, when

    def take(self, client: str) -> float:
        """0 where a request may go on, else the seconds until the next one may."""
        if not self.rate:
            return 0.0
        now = self._clock()
        level, since = self._left.pop(client, (self.size, now))
        level = min(self.size, level + (now - since) * self.rate)
        wait = 0.0 if level >= 1 else (1 - level) / self.rate
        self._left[client] = (level if wait else level - 1, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return wait
