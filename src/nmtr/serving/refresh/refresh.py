"""Refreshing what a home serves, from Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nmtr.errors import DamagedError, DataError, UsageError
from nmtr.serving.refresh.home import FAILED, REFUSED, Home
from nmtr.serving.refresh.looking import Say
from nmtr.serving.refresh.night import Night
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.retiring import retire
from nmtr.serving.refresh.soundness import mend
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
    at work there, and what the steps raise. The history has a line of these too.
    """
    with home.working():
        with _told(home):
            home.adopt()
            if home.served() and not home.pinned():
                home.pin()
            forget(home, store, options, say=say)
        try:
            with _told(home):
                return Night(home, options, store, say=say, report=report).run(wish)
        finally:
            _forget(home, store, options, say)  # who was erased meanwhile


@contextmanager
def _told(home: Home) -> Iterator[None]:
    """Let the history have a line where a night comes to nothing."""
    try:
        yield
    except RefusedError as error:
        _note(home, REFUSED, str(error))
        raise
    except Exception as error:
        _note(home, FAILED, _plain(error))
        raise


def _note(home: Home, outcome: str, why: str) -> None:
    """Tell the history why a night came to nothing; on a full disk standard error must do."""
    with suppress(OSError, DamagedError), home.switching():
        if outcome == FAILED and not home.past():
            return  # nothing has ever come to pass here: a first call that was wrong
        home.note({"outcome": outcome, "why": why})


def _plain(error: Exception) -> str:
    """Why, without ids: messages on data and of what nobody foresaw may quote some."""
    if isinstance(error, OSError | DamagedError | UsageError):
        return str(error)
    if isinstance(error, DataError):
        return "the data are not as expected; where, is in what the command printed"
    return f"{type(error).__name__}; more is in what the command printed"


def forget(
    home: Home, store: Store | None, options: Options, *, say: Say = lambda text: None
) -> int:
    """Take erased persons out of a home that is held; the number of files that knew any.

    Bundles that were trained with them are deleted when their deadline is near, but for what is
    served, which only a refresh replaces. Raises DamagedError where that cannot be read.
    """
    mend(home, say=say)
    return _forget(home, store, options, say)


def _forget(home: Home, store: Store | None, options: Options, say: Say) -> int:
    count = 0
    if store is not None:
        from nmtr.serving.refresh.purging import purge

        if count := purge(home, store):
            say(f"erased persons were taken out of {count:,} files")
    retire(home, options)
    return count
