"""What is asked of a refresh, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from nmtr.errors import NmtrError, UsageError
from nmtr.serving.refresh.checks import CHECKS
from nmtr.serving.refresh.judging import Verdict

NOTHING = "nothing new"


class RefusedError(NmtrError):
    """A night's events were not believed; nothing was changed."""


@dataclass(frozen=True)
class Wish:
    """What is asked of one refresh, beside the options.

    files: new events; accept: checks that are passed over; drop_bots: leave suspects out, from now
    on; cold: train from nothing; now: milliseconds since 1970 UTC.
    """

    files: tuple[str, ...] = ()
    accept: frozenset[str] = frozenset()
    drop_bots: bool = False
    cold: bool = False
    now: int | None = None

    def __post_init__(self) -> None:
        if wrong := sorted(self.accept - set(CHECKS)):
            raise UsageError(f"--accept: expected some of {', '.join(CHECKS)}, got {wrong[0]}")


@dataclass(frozen=True)
class Outcome:
    """What came of a refresh: promoted, kept or nothing new; why; the bundle that is served."""

    outcome: str
    why: str
    bundle: str | None
    verdict: Verdict | None = None
