"""Ids as they came: Int64 where they are whole numbers, else String; null where there is none."""

from collections.abc import Iterable

import polars as pl

from nmtr.errors import DataError

_LOST = 2.0**53  # from here on a float no longer tells neighbouring whole numbers apart
_MISSING = ("", "nan", "null", r"\n")


def tidy_ids(column: pl.Series, *, source: str, text: bool) -> pl.Series:
    """Ids of one block as Int64 or String, null where missing (empty, NaN, null).

    `text`: the values come from a file in which everything is text, so that canonical integers
    ('42', but neither '042' nor '4.0') are integers. Raises DataError for fractional ids, for
    floats too large to be exact, and for types that are no ids.
    """
    dtype = column.dtype
    if dtype == pl.Null:
        return column.cast(pl.Int64)
    if dtype.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == column.null_count() else column.cast(pl.String)
    if dtype.is_float() or dtype.is_decimal():
        return _from_floats(column.cast(pl.Float64), source=source)
    if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Binary):
        strings = column.cast(pl.String, strict=False)
        return _from_text(strings) if text else without_missing(strings)
    raise DataError(
        f"{source}: expected {column.name} as integers or text, got a column of type {dtype}; "
        "cast it, or name another column with --user or --item"
    )


def tidy_behaviors(column: pl.Series, *, source: str) -> pl.Series:
    """Behaviour values of one block as String, null where missing; whole numbers are spelled out.

    Raises DataError for a type that is no label.
    """
    if column.dtype == pl.Boolean or column.dtype.is_nested():
        raise DataError(
            f"{source}: expected behaviours as text or integers, got a column of type "
            f"{column.dtype}; name another column with --behavior"
        )
    if column.dtype in (pl.Categorical, pl.Enum):
        return without_missing(column.cast(pl.String))
    return tidy_ids(column, source=source, text=False).cast(pl.String)


def without_missing(strings: pl.Series) -> pl.Series:
    """Strings with null for the empty and for those that spell a missing value."""
    short = strings.str.len_bytes() <= max(map(len, _MISSING))
    blank = strings.str.strip_chars() == ""
    spelled = strings.filter(short).str.to_lowercase().is_in(_MISSING)
    if not (spelled.any() or blank.any()):
        return strings
    missing = blank | strings.str.to_lowercase().is_in(_MISSING)
    return strings.set(missing, None)


def join_ids(parts: Iterable[pl.Series]) -> pl.Series:
    """One column out of the blocks': Int64 where all are, else String."""
    columns = list(parts)
    if any(column.dtype == pl.String for column in columns):
        columns = [column.cast(pl.String) for column in columns]
    return pl.concat(columns, rechunk=True)


def _from_text(strings: pl.Series) -> pl.Series:
    numbers = strings.cast(pl.Int64, strict=False)
    # Only a canonical integer is spelled the way it came: '+5', '05' and '4.0' are not.
    if numbers.null_count() == 0 and bool((numbers.cast(pl.String) == strings).all()):
        return numbers
    present = without_missing(strings)
    numbers = present.cast(pl.Int64, strict=False)
    canonical = numbers.cast(pl.String).eq_missing(present)
    return numbers if bool(canonical.all()) else present


def _from_floats(floats: pl.Series, *, source: str) -> pl.Series:
    finite = floats.set(~floats.is_finite(), None)
    broken = finite.filter((finite != finite.floor()) | (finite.abs() >= _LOST))
    if broken.len():
        raise DataError(
            f"{source}: expected {floats.name} as whole numbers, got the float {broken[0]}; "
            "write the column as integers or as text"
        )
    return finite.cast(pl.Int64)
