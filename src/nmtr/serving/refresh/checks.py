"""What is looked at before a night's events are believed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.serving.refresh.gathering import Gathered
from nmtr.serving.refresh.options import Options

DAY, MINUTE = 86_400_000, 60_000  # milliseconds
REFERENCE = 14  # days that the new ones are compared with
WEEK = 7  # days, the least to compare with: a Saturday is no Friday
LONGEST = 60  # new days that are looked at
MANY = 100  # events older than the last refresh, below which they are no wonder
FEW = 10  # events expected, below which none is no wonder
NOISE = 4.0  # standard deviations of a count that are chance
CHECKS = ("stale", "ahead", "late", "missing", "volume", "bots", "duplicates", "churn")


@dataclass(frozen=True)
class Finding:
    """Something that stands against a night's events: which check, what it saw, what to do."""

    check: str
    saw: str
    advice: str

    def __str__(self) -> str:
        return f"{self.check}: {self.saw}; {self.advice}"


@dataclass(frozen=True)
class Days:
    """Days of 24 hours that end with the last event, newest first.

    new: how many of them have not been looked at; day: (events,) the day of each event, those of
    the new and the reference days only; whole: how many days the log has.
    """

    end: int
    new: int
    whole: int
    events: pl.DataFrame  # user_id, item_id, behavior, timestamp, day

    @property
    def reference(self) -> range:
        """The days that the new ones are compared with."""
        return range(self.new, min(self.new + REFERENCE, self.whole))

    def count(self, rows: pl.DataFrame) -> npt.NDArray[np.int64]:
        """(days,) rows of each day."""
        found = rows.filter(pl.col("day") < self.new + REFERENCE)["day"].to_numpy()
        return np.bincount(found, minlength=self.new + REFERENCE)


def days_of(frame: pl.DataFrame, checked_to: int | None) -> Days:
    """The days of a log up to its last event. checked_to: the last event that was looked at."""
    time = frame["timestamp"]
    first, end = int(time.min()), int(time.max())  # type: ignore[arg-type]  # never empty
    new = 1 if checked_to is None else min(LONGEST, max(1, -(-(end - checked_to) // DAY)))
    events = frame.filter(~pl.col("undo")).with_columns(day=(end - pl.col("timestamp")) // DAY)
    return Days(end, new, (end - first) // DAY, events)


def check(
    gathered: Gathered, options: Options, *, before: tuple[int, int] | None, now: int
) -> tuple[list[Finding], list[str]]:
    """What stands against the new events, and notes on what could not be looked at.

    before: the last event of the log that passed, and how many events it had.
    """
    days = days_of(gathered.frame, before[0] if before else None)
    found = [*_clock(gathered, days, options, now), *_bots(days, options)]
    found += _late(gathered.frame, before, options)
    found += _duplicates(gathered, days, options)
    if len(days.reference) < WEEK:
        note = (
            f"the log has {len(days.reference)} days before the new ones: missing, volume and "
            f"churn need {WEEK}"
        )
        return found, [note]
    return [*found, *_volumes(days, options), *_churn(days, options)], []


def _clock(gathered: Gathered, days: Days, options: Options, now: int) -> list[Finding]:
    found = []
    behind = (now - days.end) / DAY
    if behind > options.stale:
        found.append(
            Finding(
                "stale", f"the last event is {behind:.1f} days old, {written(days.end)}",
                "see whether events still arrive, or say --now for a log of the past",
            )
        )  # fmt: skip
    new = days.events.filter(pl.col("day") < days.new).height
    share = gathered.ahead / max(1, gathered.ahead + new)
    if share > options.ahead:
        found.append(
            Finding(
                "ahead", f"{gathered.ahead:,} events ({share:.1%}) are later than now",
                "see to the clocks; they are left out in any case",
            )
        )  # fmt: skip
    return found


def _late(frame: pl.DataFrame, before: tuple[int, int] | None, options: Options) -> list[Finding]:
    """Events of days that were looked at before, and so are looked at by nothing else."""
    if before is None:
        return []
    old = int((frame["timestamp"] <= before[0]).sum())
    late, new = old - before[1], frame.height - old
    if late < MANY or late / (late + new) <= options.late:
        return []
    return [
        Finding(
            "late", f"{late:,} events came that are older than {written(before[0])}, the last that "
            f"was looked at, and {new:,} that are not",
            "see to the clocks, or whether an old log was added",
        )
    ]  # fmt: skip


def _bots(days: Days, options: Options) -> list[Finding]:
    users = suspects(days, options)
    if not users.height:
        return []
    most = int(users["events"].max())  # type: ignore[arg-type]  # not empty
    return [
        Finding(
            "bots",
            f"{users.height:,} users did more than {options.bot_day:,} things in a day or "
            f"{options.bot_minute:,} in a minute, {most:,} at most",
            "leave them out with --drop-bots",
        )
    ]


def suspects(days: Days, options: Options) -> pl.DataFrame:
    """(user_id, events): who did more on a new day, or in a minute of one, than people do."""
    new = days.events.filter(pl.col("day") < days.new)
    daily = new.group_by("user_id", "day").len("events").filter(pl.col("events") > options.bot_day)
    minute = pl.col("timestamp") // MINUTE
    quick = new.group_by("user_id", minute.alias("minute")).len("events")
    quick = quick.filter(pl.col("events") > options.bot_minute)
    both = pl.concat([each.select("user_id", "events") for each in (daily, quick)])
    return both.group_by("user_id").max().sort("events", descending=True)


def _duplicates(gathered: Gathered, days: Days, options: Options) -> list[Finding]:
    rows = gathered.repeated
    if rows is None:
        return []
    new = rows.filter(pl.col("timestamp") > days.end - days.new * DAY)["again"]
    share = float(new.mean() or 0.0)  # type: ignore[arg-type]  # a share
    if share <= options.duplicates:
        return []
    return [
        Finding(
            "duplicates", f"{share:.0%} of the new events are there twice, to the millisecond",
            "see whether something is sent twice; each counts once in any case",
        )
    ]  # fmt: skip


def _volumes(days: Days, options: Options) -> list[Finding]:
    """Each behaviour of each new day beside the usual: the tenth and the ninetieth percentile.

    What is unusual may still be this weekday's way, of a shop that is closed on Sundays, say; and
    what is usual on Sundays is too little on a Monday, by the square of the limit.
    """
    found = []
    for name in options.behaviors:
        counts = days.count(days.events.filter(pl.col("behavior") == name))
        usual = counts[list(days.reference)]
        low, high = np.quantile(usual, [0.1, 0.9])
        for at in range(days.new):
            count, day = int(counts[at]), written(days.end - at * DAY)
            about = f"in the day to {day} there are {count:,} '{name}' events"
            weekday = counts[
                [each for each in (at + WEEK, at + 2 * WEEK) if each in days.reference]
            ]
            known = len(weekday) == 2
            if not count and np.median(usual) >= FEW and not (known and weekday.max() < FEW):
                found.append(
                    Finding(
                        "missing", f"{about}, usually {np.median(usual):,.0f}",
                        "see whether that behaviour is still sent",
                    )
                )  # fmt: skip
                break
            fits = _within(count, low, high, options.shift)
            if known:
                own = weekday.min(), weekday.max()
                fits = fits or _within(count, *own, options.shift)
                fits = fits and _within(count, *own, options.shift**2)
            if not fits:
                found.append(
                    Finding(
                        "volume", f"{about}, usually {low:,.0f} to {high:,.0f}",
                        "see what changed",
                    )
                )  # fmt: skip
                break
    return found


def _within(count: int, low: float, high: float, shift: float) -> bool:
    """Whether a count is no more than chance, or so many times, beyond what is usual."""
    least = min(low / shift, low - NOISE * low**0.5)
    most = max(high * shift, high + NOISE * high**0.5)
    return bool(least <= count <= most)


def _churn(days: Days, options: Options) -> list[Finding]:
    """The share of a day's events whose item, or user, was never met before that day."""
    found = []
    for column, what in (("item_id", "items"), ("user_id", "users")):
        first = pl.col("timestamp") == pl.col("timestamp").min().over(column)
        met = days.events.with_columns(since=pl.col("day").filter(first).first().over(column))
        new = days.count(met.filter(pl.col("since") == pl.col("day")))
        share = new / np.maximum(1, days.count(met))
        usual = float(share[list(days.reference)].max())
        worst = float(share[: days.new].max())
        if worst > options.churn and worst > 2 * usual:
            found.append(
                Finding(
                    "churn", f"{worst:.0%} of a day's events are of {what} never met before, "
                    f"{usual:.0%} at most in the days before",
                    f"see whether the ids of {what} were changed",
                )
            )  # fmt: skip
    return found


def written(time: int) -> str:
    """A time in milliseconds, as people read it."""
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M}"
