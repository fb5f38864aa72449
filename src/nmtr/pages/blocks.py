"""What a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LITERAL = {"*": "\ue000", "`": "\ue001", "\n": "\ue002"}  # signs that would be marks


def literal(text: str, *, most: int = 48) -> str:
    """Text from outside, such as an id: no sign of it is a mark, and it is cut where it is long."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(LITERAL.get(each, each) for each in cut)


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

    key: the names of the series, in the order of their marks; ordered: they are steps of one
    quantity, from little to much, and have colours that say so.
    """

    panels: Sequence[str]
    caption: str
    key: Sequence[str] = ()
    ordered: bool = False


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
