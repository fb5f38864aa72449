"""Blocks as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from nmtr.pages.blocks import LITERAL, Block, Drawing, Folded, Plot, Points, Section, Table, Text
from nmtr.pages.marks import mark as series_mark
from nmtr.pages.marks import step
from nmtr.pages.style import STYLE

WORDY = 40  # characters from which a cell may break
# What a plot made for white paper takes from the page instead.
THEMED = {
    "#000000": "currentColor", "#e3e6ea": "var(--line)", "#ffffff": "none",
    "#6b7280": "var(--soft)", "#0072b2": "var(--s0)", "#d55e00": "var(--s1)",
    "#009e73": "var(--s2)", "#cc79a7": "var(--s3)", "#e69f00": "var(--s4)", "#56b4e9": "var(--s5)",
}  # fmt: skip


def page(
    title: str, sections: Sequence[Section], *, plots: Path | None = None, lead: str = ""
) -> str:
    """The page; plots: the folder of the plots that are in files."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
    ]
    one = len(sections) == 1
    if not one:
        parts.append(f"<header><h1>{_inline(title)}</h1>")
        parts += [f"<p>{_inline(lead)}</p>"] if lead else []
        links = (f'<a href="#{_name(each)}">{_inline(each.title)}</a>' for each in sections)
        parts.append(f'</header><nav aria-label="sections">{"".join(links)}</nav>')
    parts.append("<main>")
    level = "h1" if one else "h2"
    for each in sections:
        heading = f"<{level}>{_inline(each.title)}</{level}>"
        parts.append(f'<section id="{_name(each)}">{heading}')
        parts += [_block(block, plots) for block in each.blocks]
        parts.append("</section>")
    return "\n".join([*parts, "</main></body></html>\n"])


def _name(section: Section) -> str:
    return html.escape(section.name)


def _block(block: Block, plots: Path | None) -> str:
    if isinstance(block, Text):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Points):
        return f"<ul>{''.join(f'<li>{_inline(each)}</li>' for each in block.points)}</ul>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Drawing):
        return _drawing(block)
    if isinstance(block, Folded):
        inside = "\n".join(_block(each, plots) for each in block.blocks)
        return f"<details><summary>{_inline(block.title)}</summary>{inside}</details>"
    if plots is None:
        raise ValueError(f"plot {block.name}: expected the folder that it is in")
    return _plot(block, plots)


def _plot(plot: Plot, plots: Path) -> str:
    drawn = (plots / f"{plot.name}.svg").read_text(encoding="utf-8")
    svg = drawn[drawn.index("<svg") :]
    # Identifiers are of the whole page: two plots may not share one.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{plot.name}-", svg)
    for color, ours in THEMED.items():
        svg = svg.replace(color, ours)
    label = html.escape(_plain(plot.caption))
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return (
        f'<figure><div class="wide plot">{svg}</div>'
        f"<figcaption>{_inline(plot.caption)}</figcaption></figure>"
    )


def _drawing(drawing: Drawing) -> str:
    mark = step if drawing.ordered else series_mark
    names = (
        f'<li><svg viewBox="-8 -8 16 16" aria-hidden="true">{mark(at, 0, 0)}</svg>'
        f"{_inline(name)}</li>"
        for at, name in enumerate(drawing.key)
    )
    key = f'<ul class="key">{"".join(names)}</ul>' if drawing.key else ""
    return (
        f'<figure>{key}<div class="panels">{"".join(drawing.panels)}</div>'
        f"<figcaption>{_inline(drawing.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(_cell(each, at, table, "th") for at, each in enumerate(table.headings))
    rows = (
        "<tr>" + "".join(_cell(each, at, table, "td") for at, each in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{_inline(table.note)}</p>' if table.note else ""
    title = f"<h3>{_inline(table.title)}</h3>" if table.title else ""
    return (
        f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _cell(text: str, at: int, table: Table, tag: str) -> str:
    kinds = ["left"] if at < table.left else []
    kinds += ["words"] if len(text) > WORDY and tag == "td" else []
    marked = f' class="{" ".join(kinds)}"' if kinds else ""
    scope = ' scope="col"' if tag == "th" else ""
    return f"<{tag}{scope}{marked}>{_inline(text)}</{tag}>"


def _inline(text: str) -> str:
    escaped = html.escape(text).replace("\n", "<br>")
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
    escaped = re.sub(r"`(.+?)`", r"<code>\1</code>", escaped)
    for sign, stand_in in LITERAL.items():
        escaped = escaped.replace(stand_in, sign)
    return escaped


def _plain(text: str) -> str:
    return text.replace("**", "").replace("`", "")
