"""Event logs as users have them, read into one schema: user_id, item_id, behavior, timestamp?."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from nmtr.data.reading.columns import BEHAVIOR, ITEM, TIME, USER
from nmtr.data.reading.faults import OVER_CAP, UNKNOWN_BEHAVIOR, Faults
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.rows import Rows, join
from nmtr.data.reading.sources import Source, find_sources
from nmtr.data.reading.timestamps import implausible, note_implausible
from nmtr.errors import DataError, UsageError
from nmtr.options import closest

__all__ = ["EventLog", "ReadOptions", "ReadReport", "from_frame", "read_events"]

UNDO = "undo"
FRAME = "the frame"


@dataclass(frozen=True)
class ReadReport:
    """What reading did: rows_read == rows kept + sum(dropped.values()), always.

    dropped: reason -> number of rows. notes: sentences on what was guessed or looks odd.
    """

    rows_read: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EventLog:
    """A log in file order.

    frame: user_id and item_id (Int64 or String, as they came), behavior (String; of an undo event
    the behaviour that it takes back), undo (Boolean) and, where has_time, timestamp (Int64,
    milliseconds since 1970 in UTC).
    """

    frame: pl.DataFrame
    has_time: bool
    sources: tuple[str, ...]
    report: ReadReport


def read_events(sources: Sequence[str | Path], options: ReadOptions | None = None) -> EventLog:
    """Read files, globs, folders and URLs as one log; never empty.

    CSV and other delimited text, JSON lines (flat, or OTTO's sessions), each plain or as .gz or
    .zst, and Parquet, here or behind a URL; Delta and Iceberg tables; databases, with
    `options.query` or `options.table`. `env:NAME` is the URL in an environment variable. Raises
    UsageError where a source or a named column is not there, DataError where the data are not as
    expected.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    found, notes = find_sources(given)
    rows = _rows(options)
    check_database(found, rows.options)
    frames: list[pl.DataFrame] = []
    for source in found:
        frame = rows.read(source)
        if frame is None:
            refuse_empty(source.name, alone=len(found) == 1)
            notes.append(f"{source.name} holds no events")
        else:
            if frames:
                same_columns(frames[0].columns, frame.columns, source=source.name)
            frames.append(frame)
    if not frames:
        raise DataError(f"expected events, got {len(found)} files that hold none")
    return _log(
        join(frames), rows, sources=tuple(str(source.path) for source in found), notes=notes
    )


def from_frame(frame: pl.DataFrame | pl.LazyFrame, options: ReadOptions | None = None) -> EventLog:
    """A log out of a Polars frame; columns and values are treated as those of a Parquet file."""
    rows = _rows(options)
    typed = rows.gather(rows.frame(frame.lazy(), source=FRAME), source=FRAME, text=False)
    if typed is None or not rows.faults.rows_read:
        raise DataError(f"{FRAME}: expected at least one event, got a frame without rows")
    return _log(typed, rows, sources=(FRAME,), notes=[])


def check_database(found: Sequence[Source], options: ReadOptions) -> None:
    """Raise UsageError where a database and what to read from it are not both named."""
    databases = [source.name for source in found if source.kind == "database"]
    asked = options.query is not None or options.table is not None
    if databases and not asked:
        raise UsageError(
            f"{databases[0]}: expected what to read from this database; "
            "say it with --table NAME or --query 'SELECT ...'"
        )
    if asked and not databases:
        raise UsageError(
            "--query and --table are for databases, and none is among the sources: "
            f"{', '.join(source.name for source in found[:5])}"
        )


def _rows(options: ReadOptions | None) -> Rows:
    options = options or ReadOptions()
    return Rows(options, Faults(options.malformed))


def refuse_empty(name: str, *, alone: bool) -> None:
    """Raise DataError for the only file of a log where it holds nothing."""
    if alone:
        raise DataError(
            f"{name}: expected events, got none: an empty file, a header only, or no rows"
        )


def same_columns(before: Sequence[str], columns: Sequence[str], *, source: str) -> None:
    """Raise DataError where a file has times and those before it have none, or the other way."""
    if list(before) != list(columns):
        has, others = ("a", "none") if TIME in columns else ("no", "one")
        raise DataError(
            f"{source}: has {has} time column, the files before it have {others}; "
            'name it with --time, or ignore times with --time ""'
        )


def _log(
    frame: pl.DataFrame, rows: Rows, *, sources: tuple[str, ...], notes: list[str]
) -> EventLog:
    notes = [*notes, *rows.notes]
    frame = _known_only(frame, rows, notes)
    frame = _undone(frame, rows.options)
    frame = _capped(frame, rows, notes)
    dropped = dict(rows.faults.dropped)
    if not frame.height:
        raise DataError(
            f"{', '.join(sources)}: expected events, got {rows.faults.rows_read} rows of which "
            f"all were dropped: {dropped}"
        )
    _note_absent(frame, rows.options, notes)
    if TIME in frame.columns:
        notes += note_implausible(*implausible(frame[TIME]))
    report = ReadReport(rows.faults.rows_read, dropped, notes)
    return EventLog(frame, TIME in frame.columns, sources, report)


def _known_only(frame: pl.DataFrame, rows: Rows, notes: list[str]) -> pl.DataFrame:
    """The rows whose behaviour is known; DataError or a count for the others."""
    known = rows.options.known
    if known is None:
        return frame
    stranger = ~frame[BEHAVIOR].is_in(list(known))
    if not stranger.any():
        return frame
    counts = Counter(dict(frame.filter(stranger)[BEHAVIOR].value_counts().rows()))
    refuse_strangers(counts, rows)
    rows.faults.dropped[UNKNOWN_BEHAVIOR] += counts.total()
    notes += note_strangers(counts, rows.options)
    return frame.filter(~stranger)


def refuse_strangers(counts: Counter[str], rows: Rows) -> None:
    """Raise DataError for behaviours that are not known, unless they are to be dropped."""
    if rows.options.unknown != "error":
        return
    first = counts.most_common(1)[0][0]
    behaviors = list(rows.options.behaviors or ())
    close = closest(first, behaviors)
    hint = f" (did you mean {first!r} by {close!r}?)" if close else ""
    raise DataError(
        f"{rows.places.get(first, 'the log')}: behaviour {first!r} is not in {behaviors}{hint}; "
        f"values not in it, with their events: {_listed(counts)}; rename them with "
        f"--map {first}=NAME, list them in --behaviors, name them in --undo, or leave them out "
        "with --unknown drop"
    )


def note_strangers(counts: Counter[str], options: ReadOptions) -> list[str]:
    """A note about dropped behaviours, if there are any."""
    behaviors = list(options.behaviors or ())
    return [f"behaviours not in {behaviors}, dropped: {_listed(counts)}"] if counts else []


def _listed(counts: Counter[str]) -> str:
    listed = ", ".join(f"{value!r} ({count:,})" for value, count in counts.most_common(20))
    return listed + (f" and {len(counts) - 20} more" if len(counts) > 20 else "")


def _undone(frame: pl.DataFrame, options: ReadOptions) -> pl.DataFrame:
    takes_back = {value: behavior for behavior, value in options.undo.items()}
    undo = frame[BEHAVIOR].is_in(list(takes_back)).alias(UNDO)
    behavior = frame[BEHAVIOR].replace(takes_back) if takes_back else frame[BEHAVIOR]
    times = [frame[TIME]] if TIME in frame.columns else []
    return pl.DataFrame([frame[USER], frame[ITEM], behavior, undo, *times])


def _capped(frame: pl.DataFrame, rows: Rows, notes: list[str]) -> pl.DataFrame:
    cap = rows.options.cap
    if cap is None:
        return frame
    kept = frame.filter(pl.len().over(USER) <= cap)
    lost = frame.height - kept.height
    if lost:
        users = frame[USER].n_unique() - kept[USER].n_unique()
        rows.faults.dropped[OVER_CAP] += lost
        notes.append(f"{users:,} users with more than {cap:,} events were dropped")
    return kept


def _note_absent(frame: pl.DataFrame, options: ReadOptions, notes: list[str]) -> None:
    there = set(frame[BEHAVIOR].unique())
    absent = [name for name in options.behaviors or () if name not in there]
    if absent:
        notes.append(f"no event of {absent} is in the log")
