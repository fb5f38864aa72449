"""What a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A paragraph; `**` marks what is bold, a backquote what is code."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    points: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells are text, `**` around what is bold; the first `left` columns are set to the left."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left: int = 1


@dataclass(frozen=True)
class Plot:
    """A plot in a file, plots/NAME.svg and NAME.png; caption: what it shows, in words."""

    name: str
    caption: str


@dataclass(frozen=True)
class Drawing:
    """Panels (SVG) side by side, as many as there is room for, one key for all.

    key: the names of the series, in the order of their marks.
    """

    panels: Sequence[str]
    caption: str
    key: Sequence[str] = ()


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when asked for."""

    title: str
    blocks: Sequence[Block]


Block = Text | Points | Table | Plot | Drawing | Folded


@dataclass(frozen=True)
class Section:
    """A part of a page, with a name to link to."""

    name: str
    title: str
    blocks: Sequence[Block]
