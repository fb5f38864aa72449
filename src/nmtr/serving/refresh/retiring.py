"""What was trained with an erased person goes by the erasure's deadline, and what comes instead.

An erasure takes a person's id, records and own weights out of every bundle at once, and marks the
bundle with its deadline: what it learned of items, it learned from them too. A bundle that started
from a marked one is marked alike, so only a training from nothing ends the mark. The last nights
before the deadline train so, and are judged as ever; in the very last ones what is served goes,
whatever the verdict, since no figure of a shop outweighs a person's right; but nothing takes its
place that is surely behind what is merely popular.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nmtr.evaluation.significance import difference
from nmtr.serving.archive import Archive
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.judging import Values, Verdict
from nmtr.serving.refresh.options import Options

OVERDUE = "erased_deadline"  # in a manifest, ms: by when what was trained with the erased must go
DAY = 86_400_000  # milliseconds
PLAIN = "popularity"  # what stands in for a candidate that is surely behind it


@dataclass(frozen=True)
class Retirement:
    """What tonight owes to an erasure: train from nothing; serve something else in any case."""

    cold: bool = False
    must: bool = False
    by: str = ""  # the deadline's day


def deadline(path: Path) -> int | None:
    """By when a bundle must be served no longer, in milliseconds; None where it may stay."""
    found: int | None = Archive(path).manifest.get(OVERDUE)
    return found


def within(path: Path, days: float) -> bool:
    """Whether a bundle's deadline is over in so many days."""
    by = deadline(path)
    return by is not None and by <= time.time() * 1000 + days * DAY


def retirement(home: Home, options: Options) -> Retirement:
    """What a refresh that begins now owes, by what is served."""
    served = home.served()
    by = deadline(home.bundles / served) if served else None
    if by is None:
        return Retirement()
    left = by / DAY - time.time() / 86_400
    return Retirement(left <= options.retire, left <= options.forced, day(home) or "")


def retire(home: Home, options: Options) -> None:
    """Delete bundles whose deadline is near, but for what is served; pin another anchor."""
    served, near = home.served(), []
    for each in sorted(home.bundles.glob("*.nmtr")):
        if within(each, options.forced):
            near.append(each)
    names = {each.name for each in near}
    if home.pinned() in names and served not in names:
        home.pin(served)
    for each in near:
        if each.name not in (served, home.pinned()):
            each.unlink()


def settled(verdict: Verdict, candidate: Values, plain: Values, *, by: str, file: str) -> Verdict:
    """The verdict where what is served must go: the candidate, or what is popular.

    candidate, plain: (U,) the metric of each user; `file` holds the popular one's bundle. The
    candidate is passed over only where its 95 % interval lies below what is popular.
    """
    why = f"{verdict.why}; what was served had to go by {by}, for an erasure"
    if len(candidate) > 1 and difference(candidate, plain).high < 0:
        why += f"; the candidate is behind what is popular ({plain.mean():.4f}), which is served"
        return replace(verdict, promote=True, why=why, file=file)
    return replace(verdict, promote=True, why=f"{why}, so the candidate is served")


def late(home: Home) -> str | None:
    """What is to be said where what is served should be served no longer; else None."""
    served = home.served()
    if served is None or not within(home.bundles / served, 0):
        return None
    return (
        f"{served}, which is served, was trained with a person who was erased, and had to go by "
        f"{day(home)}: see why no refresh has replaced it"
    )


def day(home: Home) -> str | None:
    """The day by which what is served must go, if it must."""
    served = home.served()
    by = deadline(home.bundles / served) if served else None
    return None if by is None else f"{datetime.fromtimestamp(by / 1000, UTC):%Y-%m-%d}"
