"""Raw blocks of rows into typed ones: every row is kept or counted, never lost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import polars as pl

from nmtr.data.reading.columns import BEHAVIOR, ITEM, TIME, USER
from nmtr.data.reading.database import read_database
from nmtr.data.reading.delimited import read_delimited
from nmtr.data.reading.faults import (
    MISSING_BEHAVIOR,
    MISSING_ITEM,
    MISSING_USER,
    UNREADABLE_TIME,
    Block,
    Faults,
    quote,
)
from nmtr.data.reading.identifiers import join_ids, tidy_behaviors, tidy_ids
from nmtr.data.reading.jsonlines import read_jsonlines
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.sources import Source
from nmtr.data.reading.tables import frame_blocks, read_table
from nmtr.data.reading.timestamps import Clock

_REASONS = {
    USER: (MISSING_USER, "a user id"),
    ITEM: (MISSING_ITEM, "an item id"),
    BEHAVIOR: (MISSING_BEHAVIOR, "a behaviour"),
}


_PLACES = 100
Reader = Callable[..., Iterator[Block]]  # (source, options, *, faults)
TYPED = ("json", "parquet", "delta", "iceberg", "database")  # of other kinds all is text
READERS: dict[str, Reader] = {
    "delimited": read_delimited,
    "json": read_jsonlines,
    "parquet": read_table,
    "delta": read_table,
    "iceberg": read_table,
    "database": read_database,
}


@dataclass
class Rows:
    """Gathers the rows of all sources of a log.

    places: where a behaviour that is not known first stood. time_notes: how times were read ->
    the sources in which they were.
    """

    options: ReadOptions
    faults: Faults
    places: dict[str, str] = field(default_factory=dict)
    time_notes: dict[str, list[str]] = field(default_factory=dict)

    def read(self, source: Source) -> pl.DataFrame | None:
        """The rows of one source, typed; None where it holds no row at all."""
        before = self.faults.rows_read
        blocks = READERS[source.kind](source, self.options, faults=self.faults)
        if source.behavior:
            blocks = _of_one(blocks, source.behavior)
        text = source.kind not in TYPED
        frame = self.gather(blocks, source=source.name, text=text)
        return frame if self.faults.rows_read > before else None

    def stream(self, source: Source) -> Iterator[pl.DataFrame]:
        """The rows of one source, typed, in the blocks in which they come.

        The first block settles the unit of its times.
        """
        blocks = READERS[source.kind](source, self.options, faults=self.faults)
        if source.behavior:
            blocks = _of_one(blocks, source.behavior)
        clock = Clock(source.name, self.options.time_unit)
        for block in blocks:
            if not block.frame.height:
                continue
            frame = self._typed(block, clock, text=source.kind not in TYPED)
            if TIME in frame.columns:
                clock.settle(frame[TIME])
                frame = self._timed(frame, clock)
            yield frame

    @property
    def notes(self) -> list[str]:
        """How the times were read; with the files where they were not read alike."""
        if len(self.time_notes) < 2:
            return list(self.time_notes)
        return [
            f"{note}: {', '.join(files[:5])}{' and others' if len(files) > 5 else ''}"
            for note, files in self.time_notes.items()
        ]

    def frame(self, frame: pl.LazyFrame, *, source: str) -> Iterator[Block]:
        """A Polars frame as blocks of rows; row numbers count from 0."""
        return frame_blocks(frame, self.options, faults=self.faults, source=source)

    def gather(self, blocks: Iterator[Block], *, source: str, text: bool) -> pl.DataFrame | None:
        """All blocks of one source as one typed frame; None where there is no block."""
        clock = Clock(source, self.options.time_unit)
        parts = [self._typed(block, clock, text=text) for block in blocks]
        if not parts:
            return None
        # A block without rows has no say in the type of a column.
        frame = join([part for part in parts if part.height] or parts[:1])
        return self._timed(frame, clock) if TIME in frame.columns else frame

    def _typed(self, block: Block, clock: Clock, *, text: bool) -> pl.DataFrame:
        raw = block.frame
        columns = [
            tidy_ids(raw[USER], source=block.source, text=text),
            tidy_ids(raw[ITEM], source=block.source, text=text),
            tidy_behaviors(raw[BEHAVIOR], source=block.source),
        ]
        if self.options.rename:
            columns[2] = columns[2].replace(dict(self.options.rename))
        if TIME in raw.columns:
            columns.append(clock.read(raw[TIME]))
        typed = pl.DataFrame(columns)
        self._note_behaviors(typed[BEHAVIOR], block)
        for name in typed.columns:
            if typed[name].null_count():
                typed = self._without_missing(typed, block, name, clock=clock)
        return typed

    def _without_missing(
        self, typed: pl.DataFrame, block: Block, name: str, *, clock: Clock
    ) -> pl.DataFrame:
        missing = typed[name].is_null()
        # Once a row was dropped, places no longer match; but then no error quotes one any more.
        row = missing.arg_max() or 0
        reason, expected = _REASONS.get(name, (UNREADABLE_TIME, clock.expected))
        self.faults.add(
            reason,
            place=block.place(row),
            expected=expected,
            came=quote(block.frame[name][row]),
            count=int(missing.sum()),
        )
        return typed.filter(~missing)

    def _note_behaviors(self, behaviors: pl.Series, block: Block) -> None:
        if self.options.known is None:
            return
        known = [*self.options.known, *self.places]
        strangers = behaviors.filter(~behaviors.is_in(known)).unique(maintain_order=True)
        # A column of something else, such as prices, has no end of values.
        for value in strangers.drop_nulls().head(max(0, _PLACES - len(self.places))):
            self.places[value] = block.place((behaviors == value).arg_max() or 0)

    def _timed(self, frame: pl.DataFrame, clock: Clock) -> pl.DataFrame:
        times, note = clock.milliseconds(frame[TIME])
        named = self.time_notes.setdefault(note, [])
        if clock.source not in named[-1:]:
            named.append(clock.source)
        frame = frame.with_columns(times.alias(TIME))
        lost = times.is_null()
        if lost.any():
            self.faults.add(
                UNREADABLE_TIME,
                place=clock.source,
                expected="times within 285,000 years of 1970",
                came=f"{int(lost.sum())} beyond them",
                count=int(lost.sum()),
            )
            frame = frame.filter(~lost)
        return frame


def _of_one(blocks: Iterator[Block], behavior: str) -> Iterator[Block]:
    """Blocks of rows without a behaviour, given the one that the caller named."""
    for block in blocks:
        yield replace(block, frame=block.frame.with_columns(pl.lit(behavior).alias(BEHAVIOR)))


def join(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Frames of the same columns, one below the other; ids are String where one has them so."""
    names = frames[0].columns
    return pl.DataFrame([join_ids([frame[name] for frame in frames]) for name in names])
