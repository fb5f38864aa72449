"""The charts of the pages: curves, intervals, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nmtr.pages.panel import LEFT, LETTER, RIGHT, WIDTH, Panel, Scale, short, svg, words

SHIFT = 0.16  # between series at one kind, in units of x
BAR, GAP = 22, 16


class Reach(NamedTuple):
    """A value and its interval."""

    mean: float
    low: float
    high: float


class Bar(NamedTuple):
    """A bar with its value, the part of it that is dark, and what stands behind it in words."""

    name: str
    value: float
    part: float
    words: str


def curves(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    xlabel: str,
    levels: Sequence[float] = (),
    chosen: float | None = None,
) -> str:
    """Curves over whole numbers; levels: dashed, of the series that come after; chosen: an x."""
    points = [each for line in series.values() for each in line]
    xs = [x for x, _ in points]
    low, high = min(xs, default=1.0), max(xs, default=1.0)
    margin = 0.04 * (high - low) if high > low else 0.4
    x = Scale(low - margin, high + margin, whole=True)
    panel = Panel(title, x, Scale.over([*(y for _, y in points), *levels]), xlabel)
    if chosen is not None:
        panel.line((chosen, panel.y.low), (chosen, panel.y.high), kind="axis")
        beyond = chosen > (low + high) / 2
        side = -0.01 if beyond else 0.01
        anchor = "end" if beyond else "start"
        panel.write(chosen + side * (high - low), panel.y.low, "chosen", anchor=anchor)
    for at, value in enumerate(levels, start=len(series)):
        panel.curve(at, [(x.low, value), (x.high, value)], dash=True)
    for at, (name, line) in enumerate(series.items()):
        panel.curve(at, line)
        for place, value in line:
            panel.mark(at, place, value, f"{name}, {xlabel} {place:g}: {value:.4g}")
    return panel.svg()


def intervals(
    title: str,
    kinds: Sequence[str],
    series: Mapping[str, Sequence[Reach | None]],
    *,
    xlabel: str = "",
) -> str:
    """For each kind, a mark and an interval of each series, side by side."""
    reaches = [each for row in series.values() for each in row if each]
    y = Scale.over([*(each.high for each in reaches), *(each.low for each in reaches)])
    panel = Panel(title, Scale.kinds(kinds), y, xlabel, height=300)
    for at, (name, row) in enumerate(series.items()):
        for kind, each in enumerate(row):
            if each is None:
                continue
            x = kind + (at - (len(series) - 1) / 2) * SHIFT
            panel.reach(at, x, each.low, each.high)
            told = f"{name}, {kinds[kind].split(chr(10))[0]}: {each.mean:.4f}"
            panel.mark(at, x, each.mean, f"{told} ({each.low:.4f} to {each.high:.4f})")
    return panel.svg()


def columns(
    title: str,
    kinds: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str = "",
) -> str:
    """For each kind, a column of each series, side by side."""
    panel = Panel(
        title, Scale.kinds(kinds), Scale.over([y for row in series.values() for y in row]),
        xlabel, ylabel,
    )  # fmt: skip
    wide = 0.8 / len(series)
    for at, (name, row) in enumerate(series.items()):
        for kind, value in enumerate(row):
            x = kind + (at - (len(series) - 1) / 2) * wide
            panel.bar(at, x, value, width=wide * 0.92, title=f"{name}, {kinds[kind]}: {value:.3g}")
    return panel.svg()


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars, a line of words above each; the dark part is what is common to others."""
    top = max((each.value for each in rows), default=1.0) or 1.0
    parts = [words(0, 15, title, kind="head")]
    left = min(LEFT + 40, 12 + LETTER * max((len(each.name) for each in rows), default=1))
    for at, each in enumerate(rows):
        y = 32 + at * (BAR + GAP + 14)
        wide = (WIDTH - left - RIGHT) / top
        kept = max(0, int(left / LETTER) - 1)
        name = each.name if len(each.name) <= kept else f"{each.name[: kept - 1]}…"
        parts.append(words(left, y + 10, each.words, kind="soft"))
        parts.append(words(left - 8, y + 16 + BAR * 0.7, name, anchor="end"))
        parts += [
            f'<rect class="f0" fill-opacity="{opacity}" x="{left:.1f}" y="{y + 16}" '
            f'width="{max(size * wide, 0.5):.1f}" height="{BAR}" rx="2"/>'
            for size, opacity in ((each.value, 0.35), (each.part, 1))
            if size
        ]
    told = "; ".join(f"{each.name} {short(each.value)}, {each.words}" for each in rows)
    return svg(f"{title}: {told}", WIDTH, 32 + len(rows) * (BAR + GAP + 14), parts)
