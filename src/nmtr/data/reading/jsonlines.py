"""JSON lines as blocks of rows: one event a line, or one session with its events (OTTO)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from nmtr.data.reading.columns import BEHAVIOR, ITEM, TIME, USER, Roles, find_roles
from nmtr.data.reading.faults import BROKEN_JSON, NOT_UTF8, Block, Faults, quote
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.sources import Source, line_blocks
from nmtr.errors import DataError

NESTED = "events"
_SESSION = "session"
_ROW = "__line"


@dataclass(frozen=True)
class Shape:
    """Keys of the roles; `nested` where all but the user stand in a list under 'events'."""

    roles: Roles
    nested: bool


def read_jsonlines(source: Source, options: ReadOptions, *, faults: Faults) -> Iterator[Block]:
    """Blocks of rows of a JSON lines file; values keep their JSON types.

    Raises DataError where the keys do not name the roles and, by `faults`, for broken lines.
    """
    shape: Shape | None = None
    first = 1
    for block in line_blocks(source, quoted=False):
        line = first
        first += block.count(b"\n")
        if line == 1:
            block = block.removeprefix(b"\xef\xbb\xbf")
        if not block.strip():
            continue
        if shape is None:
            if block.lstrip()[:1] == b"[":
                raise DataError(
                    f"{source.name}: expected one JSON object a line, got an array; "
                    "convert it with `jq -c '.[]'`"
                )
            shape = _shape(block, options, source=source)
            if shape is None:
                _slow_rows(block, None, source=source.name, first=line, faults=faults)
                continue
        yield parse_block(block, shape, source=source.name, first=line, faults=faults)
    if shape is None and faults.rows_read:
        raise DataError(f"{source.name}: expected one JSON object a line, found none in it")


def parse_block(block: bytes, shape: Shape, *, source: str, first: int, faults: Faults) -> Block:
    """The rows of one block of whole lines, the first of which has the number `first`."""
    frame = _fast(block)
    if frame is not None:
        rows = _flat(frame, shape) if not shape.nested else _exploded(frame, shape)
        if rows is not None and _trusted(rows):
            faults.rows_read += rows.height
            if not shape.nested:
                return Block(rows, source, first)
            lines = rows[_ROW].to_numpy() + first
            return Block(rows.drop(_ROW), source, first, lines)
    return _slow_rows(block, shape, source=source, first=first, faults=faults)


def _fast(block: bytes) -> pl.DataFrame | None:
    # Polars makes a NUL of half a surrogate pair; the slow way tells the row instead.
    if b"\\ud" in block or b"\\uD" in block:
        return None
    try:
        frame = pl.read_ndjson(block, infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return None
    return frame if frame.height == block.count(b"\n") else None


def _flat(frame: pl.DataFrame, shape: Shape) -> pl.DataFrame | None:
    if set(frame.columns) >= {own for _, own in shape.roles.items()}:
        return frame.select(pl.col(own).alias(name) for name, own in shape.roles.items())
    return None


def _exploded(frame: pl.DataFrame, shape: Shape) -> pl.DataFrame | None:
    roles = shape.roles
    inner = frame.schema.get(NESTED)
    if not isinstance(inner, pl.List) or roles.user not in frame.columns:
        return None
    if not isinstance(inner.inner, pl.Struct) or frame[NESTED].null_count():
        return None
    if not {own for name, own in roles.items() if name != USER} <= set(inner.inner.to_schema()):
        return None
    events = (
        frame.select(pl.col(roles.user).alias(USER), NESTED)
        .with_row_index(_ROW)
        .filter(pl.col(NESTED).list.len() > 0)
        .explode(NESTED)
    )
    if events[NESTED].null_count():
        return None
    taken = [
        pl.col(NESTED).struct.field(own).alias(name) for name, own in roles.items() if name != USER
    ]
    return events.select(USER, *taken, _ROW)


def _trusted(rows: pl.DataFrame) -> bool:
    """Whether ids and behaviours are plain; Polars spells lists among strings out as text."""
    for name in {USER, ITEM, BEHAVIOR} & set(rows.columns):
        column = rows[name]
        if column.dtype == pl.String:
            if column.str.starts_with("[").any() or column.str.starts_with("{").any():
                return False
        elif not (column.dtype.is_integer() or column.dtype == pl.Null):
            return False
    return TIME not in rows.columns or rows[TIME].dtype in (pl.String, pl.Int64, pl.Float64)


def _shape(block: bytes, options: ReadOptions, *, source: Source) -> Shape | None:
    """Where the roles stand, by the first objects of the file; None where no line is an object."""
    keys: dict[str, None] = {}
    inner: dict[str, None] = {}
    for line in block.split(b"\n")[:1000]:
        found = _object(line)
        if found is None:
            continue
        keys.update(dict.fromkeys(found))
        events = found.get(NESTED)
        if isinstance(events, list):
            for event in events:
                inner.update(dict.fromkeys(event) if isinstance(event, dict) else {})
    if not keys:
        return None
    of_one = bool(source.behavior)
    if not inner:
        roles = find_roles(list(keys), options, source=source.name, of_one=of_one)
        return Shape(roles, nested=False)
    user = options.user or (_SESSION if _SESSION in keys else None)
    users = [user] if user in keys else [key for key in keys if key != NESTED]
    names = users + [key for key in inner if key not in users]
    mine = replace(options, user=user)
    roles = find_roles(names, mine, source=source.name, of_one=of_one)
    if roles.user not in keys:
        raise DataError(
            f"{source.name}: expected the user beside the list {NESTED!r}, found {roles.user!r} in "
            "it; write one event a line, or say which key it is with --user"
        )
    return Shape(roles, nested=True)


def _object(line: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _slow_rows(
    block: bytes, shape: Shape | None, *, source: str, first: int, faults: Faults
) -> Block:
    rows: list[list[Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(block.split(b"\n")[:-1], start=first):
        if not line.strip():
            continue
        place = f"{source} line {number}"
        expected = "one JSON object a line"
        try:
            line.decode()
        except UnicodeDecodeError:
            faults.rows_read += 1
            faults.add(NOT_UTF8, place=place, expected="text in UTF-8", came=quote(line))
            continue
        found = _object(line)
        events = _events(found, shape)
        if shape is None or found is None or events is None:
            faults.rows_read += 1
            if shape is not None and shape.nested and found is not None:
                expected = f"a list of objects under {NESTED!r}"
            faults.add(BROKEN_JSON, place=place, expected=expected, came=quote(line.decode()))
            continue
        for event in events:
            faults.rows_read += 1
            if not isinstance(event, dict):
                expected = f"an object in the list {NESTED!r}"
                faults.add(BROKEN_JSON, place=place, expected=expected, came=quote(event))
                continue
            rows.append(
                [(found if name == USER else event).get(own) for name, own in shape.roles.items()]
            )
            numbers.append(number)
    names = [name for name, _ in shape.roles.items()] if shape else []
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    series = [_series(name, list(values)) for name, values in zip(names, columns, strict=True)]
    return Block(pl.DataFrame(series), source, first, numbers)


def _events(found: Mapping[str, Any] | None, shape: Shape | None) -> list[Any] | None:
    """The events of one line, the line itself where it is one."""
    if found is None or shape is None:
        return None
    if not shape.nested:
        return [found]
    events = found.get(NESTED)
    return events if isinstance(events, list) else None


def _series(name: str, values: list[Any]) -> pl.Series:
    """A column of whole numbers, of numbers (times only) or of text; null for other values."""
    plain = [_plain(value) for value in values]
    present = [value for value in plain if value is not None]
    if all(isinstance(value, int) and abs(value) < 2**63 for value in present):
        return pl.Series(name, plain, dtype=pl.Int64)
    if all(isinstance(value, int | float) for value in present) and (
        name == TIME or any(isinstance(value, float) for value in present)
    ):
        floats = [_float(value) for value in plain if not isinstance(value, str)]
        return pl.Series(name, floats, dtype=pl.Float64)
    strings = [None if value is None else str(value) for value in plain]
    return pl.Series(name, strings, dtype=pl.String)


def _plain(value: Any) -> int | float | str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, str):
        return value if _encodes(value) else None
    return value if isinstance(value, int) else None


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _float(value: float | None) -> float | None:
    return None if value is None or abs(value) > 1e300 else float(value)
