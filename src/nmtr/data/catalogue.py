"""Attributes: a table with a row for each item, or user, of the log, in order of their indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from nmtr.data.reading.columns import USUAL, folded
from nmtr.data.vocabulary import Vocabulary
from nmtr.errors import DataError, UsageError

Kind = Literal["item", "user"]
READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": pl.read_csv,
    ".parquet": pl.read_parquet,
}


def read_catalogue(
    path: Path, items: Vocabulary, *, kind: Kind = "item"
) -> tuple[pl.DataFrame, int]:
    """The attributes of each item (N rows, null where the file lacks one), and how many it has.

    The file: .csv or .parquet, an item's id (item_id or another usual name) and any other columns.
    kind: user, for the attributes of users. Raises UsageError or DataError for a file that is not
    that, or knows none of the items.
    """
    if path.suffix not in READERS:
        raise UsageError(f"{path}: expected a catalogue that ends in {' or '.join(READERS)}")
    if not path.is_file():
        raise UsageError(f"{path}: no such catalogue")
    try:
        frame = READERS[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as a catalogue ({error})") from error
    return align(frame, items, source=str(path), kind=kind)


def align(
    frame: pl.DataFrame, items: Vocabulary, *, source: str, kind: Kind = "item"
) -> tuple[pl.DataFrame, int]:
    """A catalogue's columns in the order of the items, without the id; and how many it has."""
    name = _id_column(frame.columns, source, kind)
    nested = [each for each, kind in frame.schema.items() if kind.is_nested()]
    if nested:
        raise DataError(f"{source}: expected plain columns, got lists or structs in {nested}")
    index = pl.Series(name, items.indices(frame.get_column(name)))
    frame = frame.with_columns(index).filter(pl.col(name) >= 0)
    if not frame.height:
        raise DataError(f"{source}: its column '{name}' holds none of the {len(items):,} {kind}s")
    twice = frame.filter(pl.col(name).is_duplicated())
    if twice.height:
        item = items.ids[int(twice[name][0])]
        raise DataError(
            f"{source}: expected one row for each {kind}, got several of {kind} {item!r}"
        )
    whole = pl.DataFrame({name: pl.Series(range(len(items)), dtype=pl.Int64)})
    found = whole.join(frame, on=name, how="left", maintain_order="left").drop(name)
    return found, frame.height


def _id_column(names: Sequence[str], source: str, kind: Kind) -> str:
    fits = [each for each in names if folded(each) in USUAL[kind]]
    if len(fits) != 1:
        raise DataError(
            f"{source}: expected one column of {kind} ids, named such as {kind}_id, got "
            f"{fits or list(names)}"
        )
    return fits[0]
