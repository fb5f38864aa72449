"""Bundles of a home that cannot be read: which go, and what a person is to do about the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nmtr.errors import DamagedError
from nmtr.serving.archive import Archive
from nmtr.serving.bundle import CHECKED_ON_OPEN
from nmtr.serving.refresh.home import Home


def mend(home: Home, *, say: Callable[[str], None] = lambda text: None) -> None:
    """Delete damaged bundles that are neither served nor the anchor, so that they stop no night.

    Raises DamagedError, with the way out, where one of these two is damaged or gone. Whole bundles
    of another schema are left alone: it may be this nmtr that goes.
    """
    for each in sorted(home.bundles.glob("*.nmtr")):
        error = damage(each)
        if error and each.name not in (home.served(), home.pinned()):
            each.unlink()
            say(f"{each.name}, kept for rolling back, was damaged and is deleted: {error}")
    refresh, copy = f"`nmtr refresh {home.path}", "or put a sound copy in its place"
    ways = {
        home.pinned(): f"it is the anchor: {refresh} --pin` makes what is served it, {copy}",
        home.served(): f"it is what is served: {refresh} --roll-back` serves the bundle before it, "
        + copy,  # the later of the two where one bundle is both: --pin would pin it again
    }
    for name in (home.served(), home.pinned()):
        if name and (error := damage(home.bundles / name)):
            raise DamagedError(f"{error}\n{name}: {ways[name]}")


def damage(path: Path) -> DamagedError | None:
    """What is wrong with a bundle's bytes; of a large one, with its directory and sizes alone."""
    try:
        archive = Archive(path)
        archive.check(contents=archive.size <= CHECKED_ON_OPEN)
    except DamagedError as error:
        return error
    except FileNotFoundError:
        return DamagedError(f"{path} is gone")
    return None
