"""An event log read block by block, each block ready for indexing: memory holds one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.data.events import (
    ReadReport,
    check_database,
    note_strangers,
    refuse_empty,
    refuse_strangers,
    same_columns,
)
from nmtr.data.indexing import Indexer
from nmtr.data.reading.columns import BEHAVIOR, ITEM, TIME, USER
from nmtr.data.reading.faults import OVER_CAP, UNKNOWN_BEHAVIOR, Faults
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.rows import Rows
from nmtr.data.reading.sources import find_sources
from nmtr.data.reading.timestamps import implausible, note_implausible
from nmtr.errors import DataError


@dataclass(frozen=True)
class Coded:
    """A block of events of one file, in file order: codes as Interactions has them."""

    source: str
    user: pl.Series
    item: pl.Series
    code: npt.NDArray[np.int8]
    time: npt.NDArray[np.int64] | None


class EventStream:
    """The events that a log keeps, as read_events keeps them; `report` once they are all read.

    The unit of a file's times, where it is not given, is settled by its first block. Raises
    UsageError and DataError as read_events does; a behaviour that is not known is refused in the
    first block that has one.
    """

    def __init__(self, sources: Sequence[str | Path], options: ReadOptions) -> None:
        """options: with behaviors."""
        if options.behaviors is None:
            raise AssertionError("a stream of events needs the behaviours named")
        self.options, self._given = options, list(sources)
        self.found, self._notes = find_sources(self._given)
        check_database(self.found, options)
        self._rows = Rows(options, Faults(options.malformed))
        self._codes = {name: r for r, name in enumerate(options.behaviors)}
        undone = {value: -1 - self._codes[name] for name, value in options.undo.items()}
        self._codes |= undone
        self._strangers: Counter[str] = Counter()
        self._early = self._late = 0
        self.columns: list[str] = []

    def blocks(self) -> Iterator[Coded]:
        """Every block that holds events; columns are known from the first one on."""
        over = self._over_cap()
        for source, frame in self._frames():
            code = self._coded(frame)
            if code.null_count():
                frame = frame.filter(code.is_not_null())
                code = code.drop_nulls()
            if over is not None:
                keep = ~frame[USER].cast(over.dtype).is_in(over.implode())
                self._rows.faults.dropped[OVER_CAP] += int((~keep).sum())
                frame, code = frame.filter(keep), code.filter(keep)
            if not frame.height:
                continue
            time = frame[TIME] if TIME in frame.columns else None
            if time is not None:
                early, late = implausible(time)
                self._early, self._late = self._early + early, self._late + late
            times = None if time is None else time.to_numpy()
            yield Coded(source, frame[USER], frame[ITEM], code.to_numpy(), times)

    def report(self) -> ReadReport:
        """What reading did; DataError where nothing is left."""
        faults = self._rows.faults
        dropped = +faults.dropped
        if not faults.rows_read:
            raise DataError(f"expected events, got {len(self.found)} files that hold none")
        if faults.rows_read == dropped.total():
            names = ", ".join(str(each.path) for each in self.found)
            raise DataError(
                f"{names}: expected events, got {faults.rows_read} rows of which all were dropped: "
                f"{dict(dropped)}"
            )
        notes = [
            *self._notes, *self._rows.notes, *note_strangers(self._strangers, self.options),
            *note_implausible(self._early, self._late),
        ]  # fmt: skip
        return ReadReport(faults.rows_read, dict(dropped), notes)

    def _frames(self) -> Iterator[tuple[str, pl.DataFrame]]:
        faults = self._rows.faults
        for source in self.found:
            before = faults.rows_read
            for frame in self._rows.stream(source):
                if self.columns:
                    same_columns(self.columns, frame.columns, source=source.name)
                self.columns = frame.columns
                yield str(source.path), frame
            if faults.rows_read == before:
                refuse_empty(source.name, alone=len(self.found) == 1)
                self._notes.append(f"{source.name} holds no events")

    def _coded(self, frame: pl.DataFrame) -> pl.Series:
        """Int8 codes, null for behaviours that are not known, which are counted or refused."""
        codes = frame[BEHAVIOR].replace_strict(self._codes, default=None, return_dtype=pl.Int8)
        if codes.null_count():
            strangers = frame[BEHAVIOR].filter(codes.is_null()).value_counts()
            counts = Counter(dict(strangers.rows()))
            refuse_strangers(counts, self._rows)
            self._strangers += counts
            self._rows.faults.dropped[UNKNOWN_BEHAVIOR] += counts.total()
        return codes

    def _over_cap(self) -> pl.Series | None:
        """The users who have more events than the cap, found by reading the log once before."""
        cap = self.options.cap
        if cap is None:
            return None
        before = EventStream(self._given, replace(self.options, cap=None))
        users, counts = Indexer(), np.zeros(0, np.int64)
        for block in before.blocks():
            index = users.index(block.user)
            counts = np.pad(counts, (0, len(users) - len(counts)))
            counts += np.bincount(index, minlength=len(users))
        over = users.ids.filter(pl.Series(counts > cap))
        if len(over):
            self._notes.append(f"{len(over):,} users with more than {cap:,} events were dropped")
        return over
