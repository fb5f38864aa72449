"""Sparse matrices of users x items, one per behaviour, as a frame of events.

Letters: M users, N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import issparse

from nmtr.data.reading.columns import BEHAVIOR, ITEM, USER
from nmtr.errors import DataError, UsageError

Ids = Sequence[object] | npt.NDArray[Any] | pl.Series | None


def are_matrices(events: object) -> bool:
    """Whether this is a mapping that holds a sparse matrix."""
    return isinstance(events, Mapping) and any(issparse(each) for each in events.values())


def from_matrices(
    matrices: Mapping[str, Any], *, users: Ids = None, items: Ids = None
) -> pl.DataFrame:
    """An event for each stored value that is not 0; how large it is does not count.

    matrices: behaviour -> (M, N) sparse matrix, all of one shape. users, items: M and N ids, else
    the numbers of rows and columns. Raises DataError where shapes differ, a value is negative or no
    number, or ids are not one for each row or column.
    """
    shape = next(each.shape for each in matrices.values() if issparse(each))
    parts = [_pairs(name, each, shape) for name, each in matrices.items()]
    frame = pl.concat(parts)
    for column, ids, size in ((USER, users, shape[0]), (ITEM, items, shape[1])):
        if ids is not None:
            known = _ids(ids, size, column)
            frame = frame.with_columns(known.gather(frame[column]).alias(column))
    return frame


def _pairs(name: str, matrix: Any, shape: tuple[int, int]) -> pl.DataFrame:
    if not issparse(matrix) or matrix.shape != shape:
        came = getattr(matrix, "shape", type(matrix).__name__)
        raise DataError(
            f"matrix of {name!r}: expected a SciPy sparse matrix of users x items, {shape} as the "
            f"first, got {came}"
        )
    cells = matrix.tocsr(copy=True)
    cells.sum_duplicates()
    cells = cells.tocoo()
    bad = np.flatnonzero(~(cells.data >= 0))  # a NaN is not
    if len(bad):
        at = bad[0]
        raise DataError(
            f"matrix of {name!r}: expected values of 0 or more, got {cells.data[at]} in row "
            f"{cells.row[at]}, column {cells.col[at]} ({len(bad):,} such); leave out what is no "
            "record of the behaviour"
        )
    there = cells.data != 0
    return pl.DataFrame(
        {USER: cells.row[there].astype(np.int64), ITEM: cells.col[there].astype(np.int64)}
    ).with_columns(pl.lit(name).alias(BEHAVIOR))


def _ids(ids: Any, size: int, column: str) -> pl.Series:
    whose = "users" if column == USER else "items"
    try:
        known = ids if isinstance(ids, pl.Series) else pl.Series(ids)
    except (TypeError, ValueError) as error:
        what = str(error).partition("\n")[0]  # Polars goes on with a stack of contexts
        raise DataError(f"{whose}: expected ids of one type, got {what}") from error
    if len(known) != size or known.n_unique() != size:
        raise DataError(
            f"{whose}: expected {size:,} distinct ids, one for each "
            f"{'row' if column == USER else 'column'}, got {len(known):,} of which "
            f"{known.n_unique():,} are distinct"
        )
    return known


def refuse_ids(users: Ids, items: Ids) -> None:
    """Raise UsageError where ids are given beside events that carry their own."""
    if users is not None or items is not None:
        raise UsageError(
            "users and items are ids for the rows and columns of sparse matrices; a frame or a "
            "file has its own, see ReadOptions(user=..., item=...)"
        )
