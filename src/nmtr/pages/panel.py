"""One panel of a picture: two scales, a grid, and what is drawn on it, as SVG.

Colours are classes of the page's style, so that a panel is right in light and in dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nmtr.pages.marks import SERIES, mark, step

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 46
LINE = 15  # from one line of text to the next
NARROW = 1e-9  # of the values themselves: what they vary by is rounding
LETTER = 7.2  # width of a letter of the panel's text, about


@dataclass(frozen=True)
class Scale:
    """Values from low to high, evenly or by log, to places from 0 to 1.

    names: of the whole numbers from 0, where these stand for kinds of something. whole: there is
    nothing between whole numbers, and no tick.
    """

    low: float
    high: float
    log: bool = False
    names: Sequence[str] = ()
    whole: bool = False

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool = False) -> Scale:
        """One that holds 0 and all finite values, or by log the positive ones."""
        known = [each for each in values if math.isfinite(each) and (each > 0 or not log)]
        if log:
            low, high = (min(known), max(known)) if known else (0.1, 1.0)
            return cls(10 ** math.floor(math.log10(low)), _above_log(low, high), log=True)
        low, high = min([0.0, *known]), max([0.0, *known])
        size = max(abs(low), abs(high))
        if high - low <= NARROW * max(size, NARROW):
            return cls(low, low + max(1.0, size))
        step = _step(high - low)
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)

    @classmethod
    def kinds(cls, names: Sequence[str]) -> Scale:
        """One for kinds of something, each at its number."""
        return cls(-0.5, len(names) - 0.5, names=tuple(names))

    def place(self, value: float) -> float:
        """From 0 to 1; what lies outside is put on the edge."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[tuple[float, str]]:
        if self.names:
            return list(enumerate(self.names))
        if self.log:
            first, last = (round(math.log10(each)) for each in (self.low, self.high))
            by = max(1, math.ceil((last - first) / 6))
            return [(10.0**each, short(10.0**each)) for each in range(first, last + 1, by)]
        step = max(_step(self.high - self.low), 1.0 if self.whole else 0.0)
        digits = max(0, -math.floor(math.log10(step)))
        count = math.floor((self.high - self.low) / step + 1e-9)
        first_tick = math.ceil(self.low / step - 1e-9) * step
        found = [first_tick + at * step for at in range(count + 1)]
        return [(each, _written(each, digits)) for each in found if each <= self.high + step / 2]


def short(value: float) -> str:
    """A number in few letters: 1.2 M, 35 k, 0.012."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


@dataclass
class Panel:
    """Something to draw on; the first drawn lies lowest."""

    title: str
    x: Scale
    y: Scale
    xlabel: str = ""
    ylabel: str = ""
    height: int = HEIGHT
    left: int = LEFT
    grid_x: bool = False
    foot: int = field(init=False)
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lines = max((name.count("\n") for _, name in self.x.ticks()), default=0)
        self.foot = BOTTOM + LINE * lines - (0 if self.xlabel else 18)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value is drawn."""
        width, height = WIDTH - self.left - RIGHT, self.height - TOP - self.foot
        return self.left + width * self.x.place(x), TOP + height * (1 - self.y.place(y))

    def mark(self, series: int, x: float, y: float, title: str = "") -> None:
        self.parts.append(mark(series, *self.at(x, y), title=title))

    def reach(self, series: int, x: float, low: float, high: float) -> None:
        """An interval of y at x."""
        (left, bottom), (_, top) = self.at(x, low), self.at(x, high)
        ends = "".join(f"M{left - 4:.1f} {y:.1f}h8" for y in (top, bottom))
        line = f"M{left:.1f} {top:.1f}V{bottom:.1f}{ends}"
        self.parts.append(f'<path class="reach l{series % SERIES}" d="{line}"/>')

    def curve(
        self, series: int, points: Sequence[tuple[float, float]], *, dash: bool = False
    ) -> None:
        found = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*each) for each in points))
        kind = f"curve l{series % SERIES}" + (" dash" if dash else "")
        self.parts.append(f'<polyline class="{kind}" points="{found}"/>')

    def line(
        self, start: tuple[float, float], end: tuple[float, float], *, kind: str = "axis dash"
    ) -> None:
        (x1, y1), (x2, y2) = self.at(*start), self.at(*end)
        self.parts.append(f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def bar(self, series: int, x: float, y: float, *, width: float, title: str = "") -> None:
        """A bar from the foot of the panel up to y; width: in units of x."""
        (left, top), (right, bottom) = self.at(x - width / 2, y), self.at(x + width / 2, self.y.low)
        told = f"<title>{html.escape(title)}</title>" if title else ""
        self.parts.append(
            f'<rect class="f{series % SERIES}" x="{left:.1f}" y="{top:.1f}" '
            f'width="{right - left:.1f}" height="{bottom - top:.1f}">{told}</rect>'
        )

    def dots(self, at: int, points: Sequence[tuple[float, float]]) -> None:
        """Many small dots in the colour of a step."""
        self.parts += [step(at, *self.at(*each), radius=2.3) for each in points]

    def write(self, x: float, y: float, text: str, *, anchor: str = "start") -> None:
        """Words a little above a point."""
        left, top = self.at(x, y)
        self.parts.append(words(left, top - 6, text, anchor=anchor, kind="soft"))

    def svg(self) -> str:
        """The panel; its title says what it shows to who cannot see it."""
        inside = [self._frame(), *self.parts]
        return svg(self.title, WIDTH, self.height, inside)

    def _frame(self) -> str:
        parts = [words(0, 15, self.title, kind="head")]
        bottom = self.height - self.foot
        for value, name in self.y.ticks():
            _, y = self.at(self.x.low, value)
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(words(self.left - 7, y + 4.5, name, anchor="end", kind="soft"))
        for value, name in _fitting(self.x.ticks(), WIDTH - self.left - RIGHT):
            x, _ = self.at(value, self.y.low)
            if self.grid_x:
                parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            for at, line in enumerate(name.split("\n")):
                parts.append(words(x, bottom + 17 + LINE * at, line, anchor="middle", kind="soft"))
        parts.append(f'<path class="axis" d="M{self.left} {bottom}H{WIDTH - RIGHT}"/>')
        if self.xlabel:
            middle = (self.left + WIDTH - RIGHT) / 2
            parts.append(words(middle, self.height - 6, self.xlabel, anchor="middle", kind="soft"))
        if self.ylabel:
            middle = (TOP + bottom) / 2
            turned = f'transform="rotate(-90 13 {middle:.0f})"'
            parts.append(words(13, middle, self.ylabel, anchor="middle", kind="soft", more=turned))
        return "".join(parts)


def svg(label: str, width: float, height: float, parts: Sequence[str]) -> str:
    """An SVG element for a page; label: what it shows, in words."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def words(
    x: float, y: float, text: str, *, anchor: str = "start", kind: str = "", more: str = ""
) -> str:
    """A line of text."""
    how = f' class="{kind}"' if kind else ""
    how += f' text-anchor="{anchor}"' if anchor != "start" else ""
    how += f" {more}" if more else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{how}>{html.escape(text)}</text>'


def _fitting(ticks: list[tuple[float, str]], width: float) -> list[tuple[float, str]]:
    """Every tick, or every second, third, ..., so that no two names touch."""
    longest = max((len(line) for _, name in ticks for line in name.split("\n")), default=0)
    room = max(1, math.floor(width / (LETTER * (longest + 1))))
    return ticks[:: max(1, math.ceil(len(ticks) / room))]


def _step(span: float) -> float:
    """1, 2 or 5 of a power of ten, about five of which make the span."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))


def _above_log(low: float, high: float) -> float:
    """The power of ten from `high` on, and more than that below `low`."""
    return float(10 ** max(math.ceil(math.log10(high) - 1e-9), math.floor(math.log10(low)) + 1))


def _written(value: float, digits: int) -> str:
    return short(value) if abs(value) >= 1000 else f"{value + 0.0:.{digits}f}"
