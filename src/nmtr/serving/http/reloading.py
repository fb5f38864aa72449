"""Hot reload: when a bundle's file is replaced, or a signal asks for it."""

from __future__ import annotations

import logging
import threading

from nmtr.errors import NmtrError
from nmtr.serving.http.arms import NONE
from nmtr.serving.http.runtime import Runtime

log = logging.getLogger("nmtr.serve")


class Watcher:
    """A thread that reloads. A file that was refused is tried again only when it has changed."""

    def __init__(self, runtime: Runtime, *, every: float) -> None:
        """every: seconds between looks at the files; 0 for no looks."""
        self.runtime, self.every = runtime, every
        self._now = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="nmtr-reload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def reload_now(self) -> None:
        """Reload soon, whether or not a file has changed; may be called by a signal's handler."""
        self._now.set()

    def close(self) -> None:
        self._stop = True
        self._now.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            asked = self._now.wait(self.every or None)
            if self._stop:
                return
            self._now.clear()
            there = self.runtime.there()
            if asked or (there != self.runtime.tried and NONE not in there):
                self._reload()

    def _reload(self) -> None:
        try:
            self.runtime.reload()
        except NmtrError:
            pass  # it is logged and counted, and the old bundles go on
        except Exception:
            log.exception("reloading failed; the old bundles go on")
