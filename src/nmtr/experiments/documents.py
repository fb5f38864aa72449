"""What is told, as blocks, and the same in Markdown, CSV and one self-contained HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmtr.files import write_text
from nmtr.pages.blocks import Plot, Section, Table, Text
from nmtr.pages.html import page

Block = Text | Table | Plot
NOTHING = "Nothing to show: none of the models that this is about was asked for, or is finished."


@dataclass
class Document:
    """A target's answer: blocks for people, data (one dict per line of the CSV) for machines."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    data: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def told(self) -> list[Block]:
        """The blocks; where there is neither a plot nor a table with a row, that there is none."""
        if any(isinstance(e, Plot) or (isinstance(e, Table) and e.rows) for e in self.blocks):
            return self.blocks
        return [*self.blocks, Text(NOTHING)]


def write(document: Document, out: Path) -> None:
    """Write NAME.md, NAME.csv and NAME.html; the plots are there already."""
    write_text(out / f"{document.name}.md", markdown(document))
    write_text(out / f"{document.name}.csv", to_csv(document.data))
    write_text(out / f"{document.name}.html", html([document], out))


def markdown(document: Document) -> str:
    """The document in Markdown, plots by reference."""
    lines = [f"# {document.title}", ""]
    for block in document.told:
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


def html(documents: Sequence[Document], out: Path) -> str:
    """One page of several documents, or of one, that needs no other file."""
    title = documents[0].title if len(documents) == 1 else "NMTR, reproduced"
    sections = [Section(each.name, each.title, each.told) for each in documents]
    return page(title, sections, plots=out / "plots")
