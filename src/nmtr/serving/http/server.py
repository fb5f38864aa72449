"""Runs the application: uvicorn, signals, logs."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from types import FrameType

import uvicorn

from nmtr.errors import NmtrError
from nmtr.serving.http.app import create_app
from nmtr.serving.http.options import Options
from nmtr.serving.http.reloading import Watcher
from nmtr.serving.http.runtime import Runtime

OURS = ("nmtr", "uvicorn")  # whose log the level is about
PROXIES = "FORWARDED_ALLOW_IPS"  # uvicorn's variable: from whom X-Forwarded-For is believed
GRACE = 20  # seconds that requests have to end when the service is stopped
BACKLOG = 1024


def serve(options: Options) -> None:
    """Serve until told to stop. Raises NmtrError, as what is wrong, at the start."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in OURS:  # not the others, which may log what they are given
        logging.getLogger(name).setLevel(options.log_level.upper())
    runtime = Runtime(options)
    watcher = Watcher(runtime, every=options.watch)
    app = create_app(runtime)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, access_log=False, server_header=False,
        log_config=None, backlog=BACKLOG, timeout_graceful_shutdown=GRACE,
        proxy_headers=PROXIES in os.environ,
    )  # fmt: skip

    def hang_up(_: int, __: FrameType | None) -> None:
        watcher.reload_now()

    signal.signal(signal.SIGHUP, hang_up)
    for each in (signal.SIGINT, signal.SIGTERM):  # uvicorn ends by them, then raises them again
        signal.signal(each, lambda *_: None)
    runtime.tidy = tidy
    tidy()
    watcher.start()
    try:
        uvicorn.Server(config).run()
    except SystemExit as error:  # an address that is taken, say, which uvicorn has logged
        if not error.code:
            raise
        where = f"{options.host}:{options.port}"
        raise NmtrError(f"it could not be served at {where}: the line above says why") from error
    finally:
        watcher.close()


def tidy() -> None:
    """Collect garbage, and let later collections pass over all that is here to stay.

    It is half a million objects: looking through them stops every thread for a quarter of a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
