"""The command that retrains what is served, every night."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nmtr.cli import nightly
from nmtr.cli.show import words

THREADS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS")


def refresh(
    home: Path,
    /,
    *,
    events: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    data: Path | None = None,
    store: str | None = None,
    key_file: Path | None = None,
    behaviors: str | None = None,
    user: str | None = None,
    item: str | None = None,
    behavior: str | None = None,
    time: str | None = None,
    map: str | None = None,
    undo: str | None = None,
    unknown: Literal["error", "drop"] | None = None,
    malformed: Literal["error", "drop"] | None = None,
    columns: str | None = None,
    delimiter: str | None = None,
    time_unit: Literal["s", "ms", "us", "iso"] | None = None,
    table: str | None = None,
    query: str | None = None,
    repurchase: bool | None = None,
    items: Path | None = None,
    users: Path | None = None,
    model: str | None = None,
    set: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    window: float | None = None,
    metric: str | None = None,
    margin: float | None = None,
    least_users: int | None = None,
    warm_epochs: int | None = None,
    keep: int | None = None,
    threads: int | None = None,
    nice: int | None = None,
    accept: str | None = None,
    drop_bots: bool = False,
    cold: bool = False,
    now: str | None = None,
    dry_run: bool = False,
    status: bool = False,
    roll_back: bool = False,
    pin: bool = False,
    purge: bool = False,
    json: bool = False,
) -> None:
    """Retrain what is served: new events, checks, training, judged by a later window, promoted.

    Serve HOME/current.nmtr: it is exchanged under a running server. The first time give
    --behaviors and where the events come from; options are kept in HOME/refresh.toml, where also
    stand the limits of the checks. A refresh that was killed goes on when it is given again.

    Parameters
    ----------
    home
        the folder with the bundles, what is served, and what happened.
    events
        files, folders or globs of events; what was there before counts once.
    data
        the folder of the service's store.
    store
        a PostgreSQL URL instead, also from NMTR_STORE; it is not kept.
    key_file
        the erasure key that PostgreSQL needs, also from NMTR_ERASURE_KEY.
    behaviors
        ordered, the target last: view,cart,buy.
    user
        the files' user column, if it has no usual name.
    item
        the item column.
    behavior
        the behaviour column.
    time
        the time column.
    map
        rename behaviour values: transaction=buy,addtocart=cart.
    undo
        values that undo a behaviour: cart=remove_from_cart.
    unknown
        what to do with behaviours not named.
    malformed
        what to do with rows that cannot be read.
    columns
        names for a file without a header, comma-separated.
    delimiter
        the field delimiter, if it is not to be guessed; `tab` for a tab.
    time_unit
        the unit of the files' times, if it is not to be guessed.
    table
        the table or view of a database to read.
    query
        what to read from a database instead.
    repurchase
        an item that was bought may be recommended again.
    items
        a catalogue: attributes of items, shown, for rules, and for nmtr-features. Without it, that
        of what is served.
    users
        attributes of users, for nmtr-features.
    model
        nmtr-gmf by default; see `nmtr train --help`.
    set
        one option, NAME=VALUE, of the model or of training; may be repeated.
    window
        days at the end of the log by which old and new are judged (1).
    metric
        by which (ndcg@100).
    margin
        the relative loss that must be ruled out (0.01).
    least_users
        who bought in the window; fewer judge nothing (100).
    warm_epochs
        epochs of a training that starts from what is served (3).
    keep
        how many bundles to keep for rolling back (7).
    threads
        that train (1).
    nice
        how far training gives way to others, 0 to 19 (19).
    accept
        checks to pass over this time: stale, ahead, late, missing, volume, bots, duplicates, churn.
    drop_bots
        leave suspected bots out, from now on.
    cold
        train from nothing.
    now
        the moment to refresh for, 2026-01-31T03:00, in UTC; by default the clock's.
    dry_run
        only look at the new events.
    status
        show what is served, and what happened.
    roll_back
        serve the bundle that was promoted before.
    pin
        make what is served the anchor.
    purge
        take erased persons out of all files, and do nothing else.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError

    given = {
        "data": data, "store": store, "key_file": key_file, "behaviors": behaviors, "user": user,
        "item": item, "behavior": behavior, "time": time, "map": map, "undo": undo,
        "unknown": unknown, "malformed": malformed, "columns": columns, "delimiter": delimiter,
        "time_unit": time_unit, "table": table, "query": query,
        "repurchase": repurchase, "items": items, "users": users,
        "model": model, "set": set, "window": window, "metric": metric, "margin": margin,
        "least_users": least_users, "warm_epochs": warm_epochs, "keep": keep, "threads": threads,
        "nice": nice,
    }  # fmt: skip
    said = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in given.items() if value is not None
    }  # fmt: skip
    if sum((dry_run, status, roll_back, pin, purge)) > 1:
        raise UsageError("expected one of --dry-run, --status, --roll-back, --pin, --purge")
    for name in THREADS:  # before anything reads them
        os.environ.setdefault(name, str(threads or 1))
    from nmtr.serving.refresh.home import Home
    from nmtr.serving.refresh.options import read_options

    place = Home(home)
    if status or roll_back or pin:
        place.expect()
        nightly.switch(place, roll_back=roll_back, pin=pin, json=json)
        return
    options = read_options(place.options, said)
    from nmtr.serving.refresh.wish import Wish

    wish = Wish(tuple(events or ()), frozenset(words(accept)), drop_bots, cold, nightly.moment(now))
    opened = nightly.store(options)
    try:
        if dry_run:
            nightly.look(place, options, wish, opened, json=json)
            return
        os.nice(options.nice)
        with nightly.keeping(place, options):
            if purge:
                nightly.purge(place, options, opened, json=json)
            else:
                nightly.refresh(place, options, wish, opened, json=json)
    finally:
        if opened:
            opened.close()
