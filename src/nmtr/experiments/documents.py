"""What is told, as blocks, and the same in Markdown, CSV and one self-contained HTML page."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmtr.files import write_text


@dataclass(frozen=True)
class Text:
    """A paragraph; `**` marks what is bold."""

    text: str


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
    """A plot under plots/, as NAME.svg and NAME.png; caption: what it shows, in words."""

    name: str
    caption: str


Block = Text | Table | Plot


@dataclass
class Document:
    """A target's answer: blocks for people, data (one dict per line of the CSV) for machines."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    data: list[Mapping[str, Any]] = field(default_factory=list)


def write(document: Document, out: Path) -> None:
    """Write NAME.md, NAME.csv and NAME.html; the plots are there already."""
    write_text(out / f"{document.name}.md", markdown(document))
    write_text(out / f"{document.name}.csv", to_csv(document.data))
    write_text(out / f"{document.name}.html", page([document], out))


def markdown(document: Document) -> str:
    """The document in Markdown, plots by reference."""
    lines = [f"# {document.title}", ""]
    for block in document.blocks:
        if isinstance(block, Text):
            lines += [block.text, ""]
        elif isinstance(block, Plot):
            lines += [f"![{block.caption}](plots/{block.name}.svg)", "", block.caption, ""]
        else:
            lines += [f"### {block.title}", "", *_rows(block), ""]
            lines += [block.note, ""] if block.note else []
    return "\n".join(lines)


def _rows(table: Table) -> list[str]:
    marks = ["---" if at < table.left else "---:" for at in range(len(table.headings))]
    return [
        "| " + " | ".join(each.replace("|", "\\|").replace("\n", "<br>") for each in row) + " |"
        for row in (table.headings, marks, *table.rows)
    ]


def to_csv(data: Sequence[Mapping[str, Any]]) -> str:
    """One line per dict; the columns are those of all of them, in order of their first use."""
    columns = list(dict.fromkeys(name for each in data for name in each))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(data)
    return stream.getvalue()


STYLE = """
body{font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;color:#1b1f24;max-width:76rem;
 margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-top:2.5rem}
h2{font-size:1.15rem;margin-top:2rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e6ea;white-space:nowrap;
 vertical-align:top}
td.words{white-space:normal;min-width:14rem}
th{border-bottom:2px solid #8a929c}
th.left,td.left{text-align:left}
tbody tr:hover{background:#f3f6f9}
strong{color:#0b5394}
p.note,figcaption{color:#57606a;font-size:.86rem}
figure{margin:1.5rem 0}
svg{max-width:100%;height:auto}
nav a{margin-right:1rem}
@media(prefers-color-scheme:dark){
 body{background:#14171a;color:#e2e6ea}
 th,td{border-color:#333a41}
 tbody tr:hover{background:#20262c}
 strong,a{color:#8cc4ff}
 p.note{color:#9aa4ae}
 figure{background:#fff}
 figcaption{padding:.3rem;color:#333}
}
"""


def page(documents: Sequence[Document], out: Path) -> str:
    """One page that needs no other file: tables, and plots as SVG inside it."""
    title = documents[0].title if len(documents) == 1 else "NMTR, reproduced"
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><body>",
    ]
    if len(documents) > 1:
        links = (f'<a href="#{each.name}">{html.escape(each.title)}</a>' for each in documents)
        parts.append(f"<nav>{''.join(links)}</nav>")
    for each in documents:
        parts.append(f'<h1 id="{each.name}">{html.escape(each.title)}</h1>')
        parts += [_block(block, out) for block in each.blocks]
    return "\n".join([*parts, "</body></html>\n"])


def _block(block: Block, out: Path) -> str:
    if isinstance(block, Text):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Plot):
        drawn = (out / "plots" / f"{block.name}.svg").read_text(encoding="utf-8")
        svg = drawn[drawn.index("<svg") :]
        # Identifiers are of the whole page: two plots may not share one.
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{block.name}-", svg)
        caption = f"<figcaption>{_inline(block.caption)}</figcaption>"
        label = html.escape(block.caption)
        return f'<figure role="img" aria-label="{label}">{svg}{caption}</figure>'
    head = "".join(_cell(each, at, block, "th") for at, each in enumerate(block.headings))
    rows = (
        "<tr>" + "".join(_cell(each, at, block, "td") for at, each in enumerate(row)) + "</tr>"
        for row in block.rows
    )
    note = f'<p class="note">{_inline(block.note)}</p>' if block.note else ""
    return (
        f'<h2>{_inline(block.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _cell(text: str, at: int, table: Table, tag: str) -> str:
    kinds = ["left"] if at < table.left else []
    kinds += ["words"] if len(text) > 60 and tag == "td" else []
    mark = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<{tag}{mark}>{_inline(text)}</{tag}>"


def _inline(text: str) -> str:
    escaped = html.escape(text).replace("\n", "<br>")
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escaped)
