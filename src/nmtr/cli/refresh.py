"""The command that retrains what is served, every night."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from nmtr.cli.show import emit_json, say, words

if TYPE_CHECKING:
    from nmtr.serving.refresh.refresh import Home, Options
    from nmtr.serving.store import Store

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
    repurchase: bool | None = None,
    items: Path | None = None,
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
    repurchase
        an item that was bought may be recommended again.
    items
        a catalogue, as for `nmtr bundle --items`.
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
        checks to pass over this time: stale, ahead, missing, volume, bots, duplicates, churn.
    drop_bots
        leave suspected bots out, from now on.
    cold
        train from nothing.
    now
        the moment to refresh for, 2026-01-31T03:00; by default the clock's.
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
        "unknown": unknown, "repurchase": repurchase, "items": items, "model": model, "set": set,
        "window": window, "metric": metric, "margin": margin, "least_users": least_users,
        "warm_epochs": warm_epochs, "keep": keep, "threads": threads, "nice": nice,
    }  # fmt: skip
    said = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items() if value is not None
    }  # fmt: skip
    if sum((dry_run, status, roll_back, pin, purge)) > 1:
        raise UsageError("expected one of --dry-run, --status, --roll-back, --pin, --purge")
    for name in THREADS:  # before anything reads them
        os.environ.setdefault(name, str(threads or 1))
    from nmtr.serving.refresh.home import Home
    from nmtr.serving.refresh.options import read_options, write_options

    place = Home(home)
    if status or roll_back or pin:
        place.expect()
        _switch(place, roll_back=roll_back, pin=pin, json=json)
        return
    options = read_options(place.options, said)
    from nmtr.serving.refresh.wish import Wish

    wish = Wish(tuple(events or ()), frozenset(words(accept)), drop_bots, cold, _moment(now))
    opened = _store(options)
    try:
        if dry_run:
            _look(place, options, wish, opened, json=json)
            return
        if not place.options.exists():
            write_options(place.options, options)
        os.nice(options.nice)
        if purge:
            _purge(place, opened, json=json)
        else:
            _refresh(place, options, wish, opened, json=json)
    finally:
        if opened:
            opened.close()


def _refresh(home: Home, options: Options, wish: Any, store: Store | None, *, json: bool) -> None:
    from nmtr.cli.show import notes, training_bar
    from nmtr.serving.refresh.refresh import refresh as run

    with training_bar() as report:
        found = run(
            home, options, wish, store=store, report=report,
            say=lambda text: notes.print(text, markup=False, soft_wrap=True),
        )  # fmt: skip
    if json:
        emit_json(asdict(found))
        return
    say(f"{found.outcome}: {found.why}")
    say(f"Served: {home.current}, which is {found.bundle or 'nothing yet'}")


def _look(home: Home, options: Options, wish: Any, store: Store | None, *, json: bool) -> None:
    from nmtr.serving.refresh.checks import written
    from nmtr.serving.refresh.night import Night

    notes: list[str] = []
    night = Night(home, options, store, say=notes.append if json else say, report=None)
    found = night.look(wish)
    if json:
        told: dict[str, Any] = {"events": 0, "trained_before": None}
        if found:
            told = {"events": found[0].frame.height, "trained_before": written(found[1])}
        emit_json({**told, "notes": notes})
        return
    if found is None:
        say("no event is later than those of the last refresh")
        return
    gathered, cut = found
    say(
        f"{gathered.frame.height:,} events pass the checks; training would see those before "
        f"{written(cut)}, and be judged by those after"
    )


def _purge(home: Home, store: Store | None, *, json: bool) -> None:
    from nmtr.errors import UsageError
    from nmtr.serving.refresh.refresh import forget

    if store is None:
        raise UsageError("--purge needs the store, which knows who was erased: --data or --store")
    with home.working():
        files = forget(home, store)
    if json:
        emit_json({"files": files})
        return
    say(f"erased persons were in {files:,} files, and are in none any more")


def _switch(home: Home, *, roll_back: bool, pin: bool, json: bool) -> None:
    back, pinned = home.roll_back() if roll_back else None, home.pin() if pin else None
    if json:
        emit_json({"served": home.served(), "anchor": home.pinned(), "history": home.past()})
    elif back:
        say(f"{home.current} is {back} again; a server takes it within seconds")
    elif pinned:
        say(f"{home.anchor} is {pinned}")
    else:
        say(f"served {home.served()}, anchor {home.pinned()}")
        for each in home.past()[-20:]:
            about = each.get("why") or each.get("bundle") or ""
            say(f"{each['at']}  {each['outcome']}: {about}")


def _store(options: Options) -> Store | None:
    from nmtr.errors import UsageError

    if not (options.data or options.store or os.environ.get("NMTR_STORE")):
        return None
    try:
        from nmtr.serving.store.opening import open_store
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the store needs {error.name}; install it with `pip install 'nmtr[serve]'`"
        ) from error
    return open_store(options.data, options.store, options.key_file, make=False)


def _moment(text: str | None) -> int | None:
    from nmtr.errors import UsageError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--now: expected a time, as 2026-01-31T03:00, got '{text}'") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
