"""What `nmtr refresh` does with a home, and says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nmtr import cli
from nmtr.cli.show import emit_json, notes, say

if TYPE_CHECKING:
    from nmtr.serving.refresh.refresh import Home, Options, Wish
    from nmtr.serving.store import Store


@contextmanager
def keeping(home: Home, options: Options) -> Iterator[None]:
    """Keep the options of the first refresh, unless it shows that they cannot be met."""
    from nmtr.errors import NmtrError
    from nmtr.serving.refresh.options import write_options
    from nmtr.serving.refresh.wish import RefusedError

    new = not home.options.exists()
    if new:
        write_options(home.options, options)
    try:
        yield
    except NmtrError as error:
        if new and not isinstance(error, RefusedError):
            home.options.unlink(missing_ok=True)
        raise


def refresh(home: Home, options: Options, wish: Wish, store: Store | None, *, json: bool) -> None:
    from nmtr.cli.show import training_bar
    from nmtr.serving.refresh.refresh import refresh as run

    with training_bar() as report:
        found = run(home, options, wish, store=store, report=report, say=_note)
    if json:
        emit_json(asdict(found))
        return
    say(f"{found.outcome}: {found.why}")
    say(f"Served: {home.current}, which is {found.bundle or 'nothing yet'}")


def _note(text: str) -> None:
    """Say what is under way on standard error; not with --quiet or --json."""
    if not cli.quiet:
        notes.print(text, markup=False, soft_wrap=True)


def look(home: Home, options: Options, wish: Wish, store: Store | None, *, json: bool) -> None:
    from nmtr.serving.refresh.checks import written
    from nmtr.serving.refresh.looking import Look

    found = Look(home, options, store, say=_note).look(wish)
    if json:
        events, cut = (0, None) if found is None else (found[0].frame.height, found[1])
        emit_json({"new": found is not None, "events": events, "cut": cut})
    elif found is None:
        say("no event is later than those of the last refresh")
    else:
        say(
            f"{found[0].frame.height:,} events pass the checks; training would see those before "
            f"{written(found[1])}, and be judged by those after"
        )


def purge(home: Home, options: Options, store: Store | None, *, json: bool) -> None:
    from nmtr.errors import NmtrError, UsageError
    from nmtr.serving.refresh.refresh import forget
    from nmtr.serving.refresh.retiring import late

    if store is None:
        raise UsageError("--purge needs the store, which knows who was erased: --data or --store")
    with home.working():
        files = forget(home, store, options)
    if json:
        emit_json({"files": files})
    else:
        say(f"erased persons were in {files:,} files, and are in none any more")
    if why := late(home):
        raise NmtrError(why)


def switch(home: Home, *, roll_back: bool, pin: bool, json: bool) -> None:
    from nmtr.serving.refresh.retiring import day

    done = home.roll_back() if roll_back else home.pin() if pin else None
    if json:
        emit_json({"served": home.served(), "anchor": home.pinned(), "retire_by": day(home),
                   "history": home.past()})  # fmt: skip
    elif roll_back:
        say(f"{home.current} is {done} again; a server takes it within seconds")
    elif pin:
        say(f"{home.anchor} is {done}")
    else:
        say(f"served {home.served()}, anchor {home.pinned()}")
        if by := day(home):
            say(f"what is served has to go by {by}, for an erasure")
        for each in home.past()[-20:]:
            about = each.get("why") or each.get("bundle") or ""
            say(f"{each['at']}  {each['outcome']}: {about}")


def store(options: Options) -> Store | None:
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


def moment(text: str | None) -> int | None:
    from nmtr.errors import UsageError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--now: expected a time, as 2026-01-31T03:00, got '{text}'") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
