"""Everything that a running service holds: started once, closed in the reverse order."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nmtr.errors import NmtrError, UsageError
from nmtr.serving.http.arms import Arms, Signature, open_arms, sides, signature
from nmtr.serving.http.batching import Batcher
from nmtr.serving.http.engine import Engine, Question
from nmtr.serving.http.exposures import Exposures
from nmtr.serving.http.follower import Follower
from nmtr.serving.http.live import Live
from nmtr.serving.http.metrics import Metrics
from nmtr.serving.http.options import Options
from nmtr.serving.http.tokens import Tokens, read_tokens
from nmtr.serving.store import Stock
from nmtr.serving.store.opening import open_store

T = TypeVar("T")
THREADS = 8  # that read the store, explain and report
log = logging.getLogger("nmtr.serve")


class Runtime:
    """The store, the bundles and the threads of one server."""

    def __init__(self, options: Options, *, tokens: Tokens | None = None) -> None:
        """Open the store and every bundle. Raises what they do, and UsageError for options.

        tokens: instead of those of the file and the environment.
        """
        self.options = options
        self.tidy: Callable[[], None] = lambda: None  # after a reload
        self.tokens = read_tokens(options.tokens_file, os.environ) if tokens is None else tokens
        if not (options.is_local() or self.tokens):
            raise UsageError(
                f"host {options.host} can be reached from outside, which needs tokens: give "
                "--tokens-file FILE or NMTR_TOKENS, or keep to 127.0.0.1"
            )
        self.sides = sides(options.bundle, options.arm)
        self.metrics = Metrics()
        arms = self._open()  # before the store: a wrong name makes no folder
        self.store = open_store(options.data, options.store, options.key_file)
        self._changing = threading.Lock()  # of arms and stock
        self._stock: Stock = Stock(0, None)
        try:
            self._stock = self.store.stock()
            self._prepare(arms)
            self.live = Live(self.store, options.undone())
            self.exposures = Exposures(self.store, self.metrics.unlogged.inc)
            self.engine = Engine(
                arms, self.live, self.exposures, self.metrics,
                share=options.exploration, pool=options.exploration_pool,
            )  # fmt: skip
            self.follower = Follower(self.store, self.live, self.restock)
            self.follower.start()
        except BaseException:
            self.store.close()
            raise
        self._loaded(arms)
        self.batcher: Batcher[Question, bytes] = Batcher(
            self.engine.answer, threads=options.workers, waiting=options.waiting
        )
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="nmtr-work")
        self.metrics.watch(
            "nmtr_recommendations_waiting", "Requests that wait to be scored.",
            lambda: self.batcher.waiting,
        )  # fmt: skip
        self.metrics.watch(
            "nmtr_store_rows_waiting", "Events and exposures that wait to be stored.",
            lambda: self.store.waiting,
        )  # fmt: skip
        self.metrics.store_up.set_function(lambda: self.follower.error is None)

    def close(self) -> None:
        """Answer and store what waits, then let go of everything."""
        self.batcher.close()
        self._pool.shutdown()
        self.follower.close()
        self.exposures.close()
        self.store.close()

    @property
    def arms(self) -> Arms:
        return self.engine.arms

    async def run(self, work: Callable[[], T]) -> T:
        """Do what may wait for a disk in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def expect_store(self) -> None:
        """Raise what stands in the way of the store, if anything does."""
        if self.follower.error is not None:
            raise self.follower.error

    def reload(self) -> bool:
        """Open the bundles again, and serve the new ones once all are open; whether any changed.

        Raises what open_bundle does; then the old ones go on.
        """
        with self._changing:
            try:
                arms = self._open()
                self._prepare(arms)
            except NmtrError as error:
                self.metrics.reloads.labels("refused").inc()
                log.error("the bundles that are served stay: %s", error)
                raise
            before = [each.model for each in self.arms.arms]
            self.engine.arms = arms
        self._loaded(arms)
        self.metrics.reloads.labels("loaded").inc()
        changed = before != [each.model for each in arms.arms]
        self.tidy()
        return changed

    def restock(self, stock: Stock) -> dict[str, int]:
        """Take over a stock list, unless a newer one is there; how many items each arm knows."""
        with self._changing:
            if stock.version > self._stock.version:
                self._stock = stock
                self._known = self.arms.restock(stock.items)
            return self._known

    def there(self) -> list[Signature]:
        """The files of the bundles as they are now."""
        return [signature(each.path) for each in self.sides]

    def _open(self) -> Arms:
        self.tried = self.there()  # before they are read: what comes later is seen as new
        return open_arms(self.sides, self.options.experiment)

    def _prepare(self, arms: Arms) -> None:
        """Keep arms to the stock, and have them answer once."""
        self._known = arms.restock(self._stock.items)
        arms.warm(self.options.exploration_pool if self.options.exploration else 20)

    def _loaded(self, arms: Arms) -> None:
        self.metrics.model.clear()
        for each in arms.arms:
            name = str(each.bundle.manifest["model"])
            self.metrics.model.labels(each.name, name, each.model).set(1)
            log.info("arm %s serves %s %s", each.name, name, each.model)
        self.metrics.drift.loaded(arms)
        self.metrics.loaded.set(time.time())
