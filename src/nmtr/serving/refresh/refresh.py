"""Refreshing what a home serves, from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nmtr.serving.refresh.home import REFUSED, Home
from nmtr.serving.refresh.looking import Say
from nmtr.serving.refresh.night import Night
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.retiring import retire
from nmtr.serving.refresh.wish import Outcome, RefusedError, Wish
from nmtr.training.step import Report

if TYPE_CHECKING:
    from nmtr.serving.store import Store

__all__ = ["Home", "Options", "Outcome", "RefusedError", "Wish", "forget", "refresh"]


def refresh(
    home: Home,
    options: Options,
    wish: Wish,
    *,
    store: Store | None = None,
    say: Say = lambda text: None,
    report: Report | None = None,
) -> Outcome:
    """Refresh what a home serves; a refresh that was killed goes on where it stopped.

    Raises RefusedError where the new events are not believed, NmtrError where another refresh is
    at work there, and what the steps raise.
    """
    with home.working():
        home.adopt()
        if home.served() and not home.pinned():
            home.pin()
        forget(home, store, options, say=say)
        try:
            return Night(home, options, store, say=say, report=report).run(wish)
        except RefusedError as error:
            with home.switching():
                home.note({"outcome": REFUSED, "why": str(error)})
            raise
        finally:
            forget(home, store, options, say=say)  # who was erased meanwhile


def forget(
    home: Home, store: Store | None, options: Options, *, say: Say = lambda text: None
) -> int:
    """Take erased persons out of a home that is held; the number of files that knew any.

    Bundles that were trained with them are deleted when their deadline is near, but for what is
    served, which only a refresh replaces.
    """
    count = 0
    if store is not None:
        from nmtr.serving.refresh.purging import purge

        if count := purge(home, store):
            say(f"erased persons were taken out of {count:,} files")
    retire(home, options)
    return count
