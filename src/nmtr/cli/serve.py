"""The command that serves bundles over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def serve(
    bundle: Path | None = None,
    /,
    *,
    arm: list[str] | None = None,
    experiment: str | None = None,
    host: str | None = None,
    port: int | None = None,
    data: Path | None = None,
    store: str | None = None,
    key_file: Path | None = None,
    tokens_file: Path | None = None,
    undo: list[str] | None = None,
    exploration: float | None = None,
    exploration_pool: int | None = None,
    rate: float | None = None,
    max_body: int | None = None,
    timeout: float | None = None,
    workers: int | None = None,
    waiting: int | None = None,
    watch: float | None = None,
    log_level: Literal["debug", "info", "warning", "error"] | None = None,
    config: Path | None = None,
) -> None:
    """Serve a bundle: recommendations, events, identities, stock; docs/service.md says how.

    SIGHUP, POST /v1/reload and a replaced file load the bundle anew; SIGTERM ends it gently.

    Parameters
    ----------
    bundle
        the bundle of the arm 'control'.
    arm
        NAME=BUNDLE:SHARE, another bundle for a share of the users; may be repeated.
    experiment
        its name, logged with every list; another name deals the users out anew.
    host
        the address to listen at (127.0.0.1); others need tokens.
    port
        8000 by default.
    data
        the folder of the embedded store (nmtr-data).
    store
        a PostgreSQL URL instead, also from NMTR_STORE.
    key_file
        the erasure key that PostgreSQL needs, also from NMTR_ERASURE_KEY.
    tokens_file
        lines read:TOKEN, write:TOKEN, read+write:TOKEN; also from NMTR_TOKENS.
    undo
        BEHAVIOR=NAME of events that take others back: cart=remove_from_cart; may be repeated.
    exploration
        share of lists that are drawn at random (0), so that others can be judged by them.
    exploration_pool
        the best so many items are drawn from (100).
    rate
        requests a second from one client, twice as many at once (1000); 0 for any.
    max_body
        bytes of a request's body (8388608).
    timeout
        seconds for a request (10).
    workers
        threads that score (1).
    waiting
        requests that may wait for them (512); more get 503.
    watch
        seconds between looks at the bundles' files (2); 0 for none.
    log_level
        info by default; no level logs ids.
    config
        a TOML file with any of these, written_like_this; the command line wins.
    """
    from nmtr.errors import UsageError

    given = {
        "bundle": bundle, "arm": arm, "experiment": experiment, "host": host, "port": port,
        "data": data, "store": store, "key_file": key_file, "tokens_file": tokens_file,
        "undo": undo, "exploration": exploration, "exploration_pool": exploration_pool,
        "rate": rate, "max_body": max_body, "timeout": timeout, "workers": workers,
        "waiting": waiting, "watch": watch, "log_level": log_level,
    }  # fmt: skip
    said = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items() if value is not None
    }  # fmt: skip
    try:
        from nmtr.serving.http.options import read_options
        from nmtr.serving.http.server import serve as run
    except ModuleNotFoundError as error:
        raise UsageError(
            f"serving needs {error.name}; install it with `pip install 'nmtr[serve]'`"
        ) from error
    run(read_options(config, said))
