"""Times of any usual form as milliseconds since 1970 in UTC."""

import time
from dataclasses import dataclass

import polars as pl

from nmtr.errors import DataError

UNITS = ("s", "ms", "us", "ns", "iso")
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_PER_MILLISECOND = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_LARGEST = float(2**53)  # beyond it a float no longer holds every millisecond
_DAY = 86_400_000
_YEAR_1990 = 631_152_000_000
_ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M%#z",
    "%Y-%m-%d",
)


@dataclass
class Clock:
    """Reads the time column of one source, block by block.

    The first block settles whether its text holds numbers or ISO times; the unit of numbers is
    settled by `milliseconds`, once all of them are known.
    """

    source: str
    unit: str | None = None
    form: str | None = None

    def read(self, column: pl.Series) -> pl.Series:
        """Times as Float64 in the column's own unit, or as Int64 milliseconds (ISO, dates).

        Null marks a time that cannot be read. Raises DataError for a type that is no time.
        """
        dtype = column.dtype
        if dtype.is_temporal() and dtype not in (pl.Date, pl.Datetime):
            raise DataError(f"{self.source}: expected times or dates, got a column of type {dtype}")
        if dtype in (pl.Date, pl.Datetime):
            self.form = "date"
            # Polars divides towards minus infinity here, as `milliseconds` does below.
            return column.cast(pl.Datetime("us"), strict=False).dt.epoch("ms")
        if dtype.is_numeric():
            return self._numbers(column)
        if dtype == pl.Null:
            return column.cast(pl.Float64)
        if dtype in (pl.String, pl.Categorical, pl.Enum):
            return self._text(column.cast(pl.String))
        raise DataError(
            f"{self.source}: expected times as numbers, ISO text or dates, got type {dtype}; "
            "name another column with --time"
        )

    def _numbers(self, column: pl.Series) -> pl.Series:
        if self.unit == "iso":
            raise DataError(
                f"{self.source}: --time-unit iso expects text such as 2024-05-31T12:00:00, "
                f"got numbers of type {column.dtype}; give --time-unit s, ms or us"
            )
        if self.form == "iso":  # JSON lines may change from text to numbers
            return column.clear(column.len()).cast(pl.Int64)
        numbers = _finite(column.cast(pl.Float64, strict=False))
        if numbers.count():
            self.form = "number"
        return numbers

    def _text(self, column: pl.Series) -> pl.Series:
        if self.form is None and self.unit is not None:
            self.form = "iso" if self.unit == "iso" else "number"
        if self.form == "iso":
            return parse_iso(column)
        numbers = _finite(column.str.strip_chars().cast(pl.Float64, strict=False))
        if self.form is None:
            iso = parse_iso(column.head(1000)).count()
            if iso > numbers.head(1000).count():
                self.form = "iso"
                return parse_iso(column)
            if numbers.count():
                self.form = "number"
        return numbers

    @property
    def expected(self) -> str:
        """What a readable time looks like here, for a message."""
        if self.form == "iso":
            return "an ISO time such as 2024-05-31T12:00:00Z"
        if self.form == "date":
            return "a date"
        return "a number" + (f" of {_NAMES[self.unit]}" if self.unit in _NAMES else "")

    def settle(self, column: pl.Series) -> None:
        """Let what `read` returned decide the unit of numbers, where none was given."""
        if self.form == "number" and self.unit is None:
            self.unit = guess_unit(column)

    def milliseconds(self, column: pl.Series) -> tuple[pl.Series, str]:
        """What `read` returned as Int64 milliseconds (null: out of range), and a note."""
        if self.form != "number":
            how = "ISO text" if self.form == "iso" else "dates"
            return column.cast(pl.Int64), f"timestamps read as {how}, UTC where no zone is given"
        unit = self.unit if self.unit in _NAMES else guess_unit(column)
        # Floats of seconds carry rounding noise, so they are rounded; finer units are cut.
        if unit == "s":
            times = (column * 1000.0).round()
        else:
            times = (column / float(_PER_MILLISECOND[unit])).floor()
        times = times.set(times.abs() > _LARGEST, None)
        return times.cast(pl.Int64), f"timestamps read as {_NAMES[unit]}"


def _finite(numbers: pl.Series) -> pl.Series:
    return numbers.set(~numbers.is_finite(), None)


def guess_unit(numbers: pl.Series) -> str:
    """The unit in which the median falls between 1973 and 5138: 's', 'ms', 'us' or 'ns'."""
    median = numbers.abs().median()
    size = float(median) if isinstance(median, int | float) else 0.0
    for unit, limit in (("s", 1e11), ("ms", 1e14), ("us", 1e17)):
        if size < limit:
            return unit
    return "ns"


def parse_iso(text: pl.Series) -> pl.Series:
    """ISO dates and times as Int64 milliseconds; null where unreadable; UTC without a zone."""
    plain = (
        text.str.strip_chars()
        .str.replace(r"^(\d{4}-\d{2}-\d{2})[Tt]", "${1} ")
        .str.replace(r"\s*(UTC|GMT|Z|z)$", "")
    )
    times = pl.Series(text.name, [], dtype=pl.Datetime("us")).extend_constant(None, len(plain))
    for form in _ISO_FORMATS:
        left = plain.filter(times.is_null())
        if left.count() == 0:
            break
        if form.endswith("d"):
            parsed = left.str.to_date(form, strict=False).cast(pl.Datetime("us"))
        else:
            # With a zone in the text Polars hands back UTC, which is then no longer spelled out.
            parsed = left.str.to_datetime(form, strict=False, time_unit="us")
            parsed = parsed.dt.replace_time_zone(None)
        times = (
            times.scatter(times.is_null().arg_true(), parsed) if len(left) < len(times) else parsed
        )
    return times.dt.epoch("ms")


def implausible(times: pl.Series) -> tuple[int, int]:
    """How many times (Int64 milliseconds) are before 1990, and how many over a day ahead."""
    late = times > time.time() * 1000 + _DAY
    return int((times < _YEAR_1990).sum()), int(late.sum())


def note_implausible(early: int, late: int) -> list[str]:
    """A note about such times, if there are any."""
    if not early and not late:
        return []
    return [
        f"{early:,} events are dated before 1990 and {late:,} over a day in the future; "
        "kept, but check --time and --time-unit"
    ]
