"""Delimited text (CSV, TSV and kin) as blocks of rows.

A block is first checked for its structure with NumPy: the delimiters and line ends outside quotes
must give every record the same number of fields. Polars then parses it. Only a block that fails
the check is gone through record by record, which finds the line numbers of the rows at fault.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.data.reading.columns import count_roles, find_roles
from nmtr.data.reading.faults import BROKEN_QUOTES, NOT_UTF8, WRONG_FIELDS, Block, Faults, quote
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.recbole import refuse_lists, untyped
from nmtr.data.reading.sources import Source, line_blocks
from nmtr.errors import DataError, UsageError

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",\t;| "
_LOOKAHEAD = 50  # lines that a quoted field may run over


@dataclass(frozen=True)
class Layout:
    """Columns of a delimited file: `fields` maps a name of the schema to a field's position."""

    delimiter: str
    width: int
    fields: dict[str, int]


def read_delimited(source: Source, options: ReadOptions, *, faults: Faults) -> Iterator[Block]:
    """Blocks of rows of a delimited file, all values text.

    Raises DataError for a header that does not name the columns, and, by `faults`, for rows with
    too many or too few fields, broken quotes or bytes that are not UTF-8.
    """
    layout: Layout | None = None
    first = 1
    for block in line_blocks(source, quoted=True):
        line = first
        first += block.count(b"\n")
        if layout is None:
            plain = block.removeprefix(_BOM).lstrip(b"\r\n")
            if not plain:
                continue
            line += block.count(b"\n") - plain.count(b"\n")
            head, _, rest = plain.partition(b"\n")
            layout = _layout(head, options, source=source)
            block = plain
            if options.columns is None:
                block, line = rest, line + 1
        if block.strip(b"\r\n"):
            yield parse_block(block, layout, source=source.name, first=line, faults=faults)


def parse_block(block: bytes, layout: Layout, *, source: str, first: int, faults: Faults) -> Block:
    """The rows of one block of whole lines, the first of which has the number `first`."""
    if block.endswith((b"\n\n", b"\n\r\n")):
        block = block.rstrip(b"\r\n") + b"\n"
    ends = _record_ends(block, layout)
    if ends is not None and _is_utf8(block):
        frame = _parse(block, layout)
        if frame is not None and frame.height == len(ends):
            faults.rows_read += frame.height
            return Block(frame, source, first, _line_numbers(block, ends, first))
    return _parse_slowly(block, layout, source=source, first=first, faults=faults)


def _record_ends(block: bytes, layout: Layout) -> npt.NDArray[np.int64] | None:
    """Positions of the line feeds that end records, or None where a record has a wrong width."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    marks = np.flatnonzero(data == ord(layout.delimiter))
    if b'"' in block:
        inside = np.bitwise_xor.accumulate(data == ord('"'))
        ends, marks = ends[~inside[ends]], marks[~inside[marks]]
    per_row = layout.width - 1
    if not len(ends) or len(marks) != len(ends) * per_row:
        return None
    rows = marks.reshape(len(ends), per_row)
    fits = bool((rows[:, -1] < ends).all()) and bool((rows[1:, 0] > ends[:-1]).all())
    return ends if fits else None


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse(block: bytes, layout: Layout) -> pl.DataFrame | None:
    try:
        frame = pl.read_csv(
            block,
            has_header=False,
            new_columns=[str(field) for field in range(layout.width)],
            infer_schema=False,
            separator=layout.delimiter,
            quote_char='"' if b'"' in block else None,
        )
    except pl.exceptions.PolarsError:
        return None
    if frame.width != layout.width:
        return None
    return frame.select(pl.col(str(field)).alias(name) for name, field in layout.fields.items())


def _line_numbers(
    block: bytes, ends: npt.NDArray[np.int64], first: int
) -> npt.NDArray[np.int64] | None:
    feeds = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    if len(feeds) == len(ends):
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    return first + np.searchsorted(feeds, starts)


def _parse_slowly(
    block: bytes, layout: Layout, *, source: str, first: int, faults: Faults
) -> Block:
    lines = block.split(b"\n")[:-1]
    columns: dict[str, list[str]] = {name: [] for name in layout.fields}
    numbers: list[int] = []
    at = 0
    while at < len(lines):
        here, at = at, at + 1
        if not lines[here].strip(b"\r"):
            continue
        faults.rows_read += 1
        place = f"{source} line {first + here}"
        try:
            fields, taken = _record(lines, here, layout.delimiter)
        except UnicodeDecodeError:
            came = quote(lines[here])
            faults.add(NOT_UTF8, place=place, expected="text in UTF-8", came=came)
            continue
        except csv.Error as error:
            came = f"{quote(lines[here].decode(errors='replace'))} ({error})"
            faults.add(BROKEN_QUOTES, place=place, expected="quotes in pairs", came=came)
            continue
        at = here + taken
        if len(fields) != layout.width:
            came = f"{len(fields)}: {quote(layout.delimiter.join(fields))}"
            faults.add(WRONG_FIELDS, place=place, expected=f"{layout.width} fields", came=came)
            continue
        numbers.append(first + here)
        for name, field in layout.fields.items():
            columns[name].append(fields[field])
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return Block(frame, source, first, numbers)


def _record(lines: Sequence[bytes], at: int, delimiter: str) -> tuple[list[str], int]:
    """The fields of the record that starts at a line, and how many lines it takes.

    Raises UnicodeDecodeError and csv.Error.
    """
    text = lines[at].decode().removesuffix("\r")
    if '"' not in text:
        return text.split(delimiter), 1
    try:
        return _split(text, delimiter), 1
    except csv.Error as error:
        # Only an open quote can be closed by the lines below.
        if "unexpected end of data" not in str(error):
            raise
    for end in range(at + 1, min(at + _LOOKAHEAD, len(lines))):
        if b'"' in lines[end]:
            text = b"\n".join(lines[at : end + 1]).decode().removesuffix("\r")
            try:
                return _split(text, delimiter), end + 1 - at
            except csv.Error as error:
                if "unexpected end of data" not in str(error):
                    raise
    raise csv.Error("a quote is opened and never closed")


def _split(text: str, delimiter: str) -> list[str]:
    records = list(csv.reader([text], delimiter=delimiter, strict=True))
    if len(records) != 1:
        raise csv.Error("a line end stands outside quotes")
    return records[0]


def _layout(head: bytes, options: ReadOptions, *, source: Source) -> Layout:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{source.name}: expected UTF-8, got UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`"
        )
    try:
        text = head.decode().rstrip("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.name} line 1: expected column names in UTF-8, got {quote(head)}; "
            "convert the file to UTF-8 with `iconv`"
        ) from error
    delimiter = options.delimiter or _sniff(text, options.columns, tabs=source.tabs)
    fields, types = _split_header(text, delimiter)
    names = list(options.columns or fields)
    if options.columns is not None and len(fields) != len(names):
        raise UsageError(
            f"{source.name} line 1: --columns names {len(names)} columns, the line has "
            f"{len(fields)} fields split at {delimiter!r}: {quote(text)}; "
            "name every column, or say --delimiter"
        )
    roles = find_roles(names, options, source=source.name, of_one=bool(source.behavior))
    if options.columns is None:
        refuse_lists(roles, names, types, source=source.name)
    return Layout(delimiter, len(names), {name: names.index(own) for name, own in roles.items()})


def _split_header(text: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The names in a first line, and the types beside them where it is RecBole's."""
    try:
        fields = [name.strip() for name in _split(text, delimiter)]
    except csv.Error:
        fields = text.split(delimiter)
    return untyped(fields)


def _sniff(text: str, columns: Sequence[str] | None, *, tabs: bool) -> str:
    """The delimiter under which a first line makes most sense."""
    order = "\t" + _DELIMITERS.replace("\t", "") if tabs else _DELIMITERS

    def sense(delimiter: str) -> tuple[int, int]:
        fields, _ = _split_header(text, delimiter)
        fitting = count_roles(fields) if columns is None else int(len(fields) == len(columns))
        # A blank splits prose too, so that it must not win by its number of fields.
        return fitting, 0 if delimiter == " " else len(fields)

    return max(order, key=sense)
