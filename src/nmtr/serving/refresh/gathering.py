"""The events of a refresh: those in the store, those of files, those of files before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from nmtr.data.events import EventLog, ReadReport, from_frame, read_events
from nmtr.errors import DataError, UsageError
from nmtr.files import replace_file
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.options import Options

if TYPE_CHECKING:
    from nmtr.serving.store import Store

VISITOR = "visitor\x1f"  # before the id of a visitor who is nobody's, which no user's id may be
COLUMNS = ("user_id", "item_id", "behavior", "undo", "timestamp")
AHEAD = 600_000  # milliseconds by which clocks may differ
IDS = ("user_id", "item_id")


@dataclass(frozen=True)
class Gathered:
    """frame: every event once, in order of time, less those of erased persons, up to `now`.

    repeated: (timestamp, again) of every row that was read this time, again where an equal one
    stands before it in its source. ahead: events that are later than now, and left out. fresh: of
    the files, what the home's log lacks. dropped: rows of the files that were left out, by reason.
    """

    frame: pl.DataFrame
    repeated: pl.DataFrame | None
    ahead: int
    fresh: pl.DataFrame | None
    dropped: Mapping[str, int] = field(default_factory=dict)

    def log(self) -> EventLog:
        """The same as `nmtr prepare` would have read it."""
        return EventLog(self.frame, True, ("refresh",), ReadReport(self.frame.height))


def gather(
    home: Home, options: Options, store: Store | None, files: Sequence[str], *, now: int
) -> Gathered:
    """Read everything. Raises UsageError where no source is named, DataError for what is no log.

    now: milliseconds since 1970 UTC; what is later, but for the clocks' small differences, is not
    believed.
    """
    kept = [pl.read_parquet(each) for each in sorted(home.log.glob("*.parquet"))]
    if not (kept or files or store):
        raise UsageError("no events: name files with --events, or the service's store with --data")
    log = _read_files(files, options) if files else None
    read = [log.frame.select(COLUMNS)] if log is not None else []
    stored = _read_store(store, options) if store else None
    given = read if stored is None else [*read, stored]
    alike = _alike([*kept, *given])
    kept, given = alike[: len(kept)], alike[len(kept) :]
    news = given[0].unique(maintain_order=True) if files else None
    if news is not None and kept:
        news = news.join(pl.concat(kept), on=COLUMNS, how="anti", maintain_order="left")
    repeated = pl.concat([_repeated(each) for each in given]) if given else None
    if not alike:
        raise DataError("the store holds no event yet")
    both = pl.concat(alike)
    both = both.unique(maintain_order=True).sort("timestamp", maintain_order=True)
    if store:
        both = honoured(store, both)
    believed = pl.col("timestamp") <= now + AHEAD
    frame = both.filter(believed)
    if not frame.height:
        raise DataError("no event is left to learn from: all are later than now, or erased")
    dropped = log.report.dropped if log is not None else {}
    return Gathered(frame, repeated, both.height - frame.height, news, dropped)


def keep(home: Home, fresh: pl.DataFrame, *, name: str) -> None:
    """Add a night's events from files to the home's log."""
    home.log.mkdir(exist_ok=True)
    with replace_file(home.log / f"{name}.parquet") as temporary:
        fresh.write_parquet(temporary)


def honoured(store: Store, frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with user_id less the rows of erased persons, visitors among them."""
    frame = store.honour(frame)
    if frame.schema["user_id"] != pl.String:
        return frame
    theirs = pl.col("user_id").str.starts_with(VISITOR)
    named = frame.with_columns(
        visitor=pl.when(theirs).then(pl.col("user_id").str.strip_prefix(VISITOR))
    )
    return store.honour(named, column="visitor", kind="visitor").drop("visitor")


def _read_files(files: Sequence[str], options: Options) -> EventLog:
    log = read_events(files, options.reading())
    if not log.has_time:
        raise DataError(
            f"{', '.join(log.sources)}: no time column was found, and a refresh needs times; name "
            "it with --time"
        )
    return log


def _read_store(store: Store, options: Options) -> pl.DataFrame | None:
    """Every event up to now; a visitor who belongs to no user counts as one of their own."""
    frames = [
        frame.select(
            pl.coalesce("user_id", pl.lit(VISITOR) + pl.col("visitor_id")).alias("user_id"),
            "item_id", "behavior", "timestamp",
        )
        for frame in store.frames()
    ]  # fmt: skip
    if not frames:
        return None
    return from_frame(pl.concat(frames), options.reading(file=False)).frame.select(COLUMNS)


def _repeated(frame: pl.DataFrame) -> pl.DataFrame:
    again = ~pl.struct(frame.columns).is_first_distinct()
    return frame.select("timestamp", again.alias("again"))


def _alike(frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Frames with ids of one type: text, where any has text."""
    for name in IDS:
        if len({frame.schema[name] for frame in frames}) > 1:
            frames = [frame.with_columns(pl.col(name).cast(pl.String)) for frame in frames]
    return [each.select(COLUMNS) for each in frames]
