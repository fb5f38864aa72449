"""Attributes of users and items as fields: which values a row has, as columns of one table.

A column of text is a field of categories, or of several at once where `|` parts them; one of
numbers becomes buckets of about as many rows each. A field of more values than WIDEST is hashed
into so many. A text column that tells nearly every row apart, such as a title, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.data.catalogue import Kind, read_catalogue
from nmtr.data.interactions import Interactions
from nmtr.data.vocabulary import hash_ids

BUCKETS = 16
WIDEST = 10_000
APART = 0.5  # of its rows' values distinct: a title, no category
PARTED = "|"


@dataclass(frozen=True)
class Fields:
    """What n rows have: indptr (n + 1,), columns and weights of the C columns of all fields.

    The weights of one field sum to 1 in a row that has it.
    """

    indptr: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    n_columns: int

    def take(self, rows: npt.NDArray[np.integer]) -> Fields:
        """These rows, in that order."""
        starts, lengths = self.indptr[rows], np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - starts, lengths)
        return Fields(indptr, self.columns[at], self.weights[at], self.n_columns)

    def described(self) -> npt.NDArray[np.bool_]:
        """(n,) which rows have any value."""
        found: npt.NDArray[np.bool_] = np.diff(self.indptr) > 0
        return found


@dataclass(frozen=True)
class Features:
    """The fields of users and of items, where there are any."""

    users: Fields | None = None
    items: Fields | None = None


def features_of(data: Interactions) -> Features:
    """The fields of a prepared data set."""
    found = (
        None if frame is None else encode(frame)
        for frame in (data.user_attributes, data.item_attributes)
    )
    return Features(*found)


def encode(frame: pl.DataFrame) -> Fields:
    """The fields of a table's rows (n,)."""
    height, width = frame.height, 0
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for name in used(frame):
        series = frame.get_column(name)
        row, code, n = _numbers(series) if _is_number(series) else _categories(series)
        share = (1 / np.bincount(row, minlength=height)[row]).astype(np.float32)
        parts.append((row, code + width, share))
        width += n
    rows, columns, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((columns, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=height))])
    return Fields(indptr.astype(np.int64), columns[order], weights[order], width)


def used(frame: pl.DataFrame) -> list[str]:
    """The columns that become fields."""
    return [name for name in frame.columns if _is_number(frame[name]) or _repeats(frame[name])]


def with_attributes(
    data: Interactions, *, items: Path | None, users: Path | None
) -> tuple[Interactions, Sequence[str]]:
    """The data with the attributes in these files, and what is to be said of them.

    Raises UsageError or DataError as read_catalogue does.
    """
    notes: list[str] = []
    files: tuple[tuple[Kind, Path | None], ...] = (("user", users), ("item", items))
    for kind, path in files:
        if path is None:
            continue
        known = data.users if kind == "user" else data.items
        frame, count = read_catalogue(path, known, kind=kind)
        fields = used(frame)
        said = f"{path}: {count:,} of {len(known):,} {kind}s; fields {', '.join(fields) or 'none'}"
        left = [name for name in frame.columns if name not in fields]
        notes.append(
            said + (f"; left out, as nearly every row has its own: {', '.join(left)}" * bool(left))
        )
        attributes = {f"{kind}_attributes": frame}
        data = replace(data, **attributes)  # type: ignore[arg-type]  # a frame, of either kind
    return data, notes


def _is_number(series: pl.Series) -> bool:
    return series.dtype.is_numeric() or series.dtype.is_temporal()


def _repeats(series: pl.Series) -> bool:
    """Whether a column of text has few enough values to learn from."""
    _, values = _values(series)
    return 0 < values.n_unique() <= max(2, APART * len(values))


def _values(series: pl.Series) -> tuple[npt.NDArray[np.int64], pl.Series]:
    """The rows of all values of a column of text, and the values."""
    texts = pl.DataFrame({"row": np.arange(len(series)), "value": series.cast(pl.String)})
    parts = (
        texts.with_columns(pl.col("value").str.split(PARTED))
        .explode("value")
        .with_columns(pl.col("value").str.strip_chars())
        .filter(pl.col("value").str.len_chars() > 0)
        .unique(maintain_order=True)
    )
    return parts["row"].to_numpy().astype(np.int64), parts["value"]


def _categories(
    series: pl.Series,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Rows, their values' columns, and how many columns there are."""
    rows, values = _values(series)
    distinct = values.unique().sort()
    if len(distinct) > WIDEST:
        return rows, (hash_ids(values) >> np.uint64(1)).astype(np.int64) % WIDEST, WIDEST
    codes = distinct.search_sorted(values)
    return rows, pl.Series(codes).to_numpy().astype(np.int64), len(distinct)


def _numbers(series: pl.Series) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Rows of numbers, their buckets, and how many buckets there are."""
    numbers = series.to_physical().cast(pl.Float64).fill_null(np.nan).to_numpy()
    rows = np.flatnonzero(np.isfinite(numbers))
    if not len(rows):
        return rows, rows, 0
    edges = np.unique(np.quantile(numbers[rows], np.arange(1, BUCKETS) / BUCKETS))
    return rows, np.searchsorted(edges, numbers[rows], side="right"), len(edges) + 1
