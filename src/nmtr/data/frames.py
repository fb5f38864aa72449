"""Tables of other libraries as Polars frames; what they need stays their own (no pyarrow)."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from nmtr.errors import DataError


def to_frame(events: Any) -> pl.DataFrame | pl.LazyFrame:
    """A Polars frame of a Polars or pandas frame or a mapping of columns.

    Raises DataError where it is none of them, or a column holds values of several types.
    """
    if isinstance(events, pl.DataFrame | pl.LazyFrame):
        return events
    try:
        if type(events).__module__.partition(".")[0] == "pandas":
            return _from_pandas(events)
        return pl.DataFrame(events)
    except (pl.exceptions.PolarsError, AttributeError, TypeError, ValueError) as error:
        what = str(error).partition("\n")[0]  # Polars goes on with a stack of contexts
        raise DataError(f"expected a frame or columns of one length, got {what}") from error


def _from_pandas(events: Any) -> pl.DataFrame:
    names = [str(name) for name in events.columns]
    if len(set(names)) < len(names):
        raise DataError(f"expected columns of distinct names, got {names}")
    columns = zip(names, (column for _, column in events.items()), strict=True)
    return pl.DataFrame([pl.Series(name, _values(column)) for name, column in columns])


def _values(column: Any) -> Any:
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    values = column.to_numpy()
    if values.dtype != np.object_:
        return values
    missing = column.isna().to_numpy()
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]
