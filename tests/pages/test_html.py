"""A page needs no other file, and takes nothing from outside for a mark of its own."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from nmtr.pages.blocks import Block, Drawing, Folded, Plot, Points, Section, Table, Text, literal
from nmtr.pages.charts import Bar, bars
from nmtr.pages.html import page

VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the last opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Balanced:
    found = Balanced()
    found.feed(text)
    assert found.open == []
    return found


def test_every_block_is_shown_once_and_well_formed(tmp_path: Path) -> None:
    svg = '<?xml?>\n<svg xmlns="x"><path id="a" fill="#000000"/><use href="#a"/></svg>'
    (tmp_path / "p.svg").write_text(svg)
    blocks: list[Block] = [
        Text("some **bold** and `code`"),
        Points(["first", "second"]),
        Table("sizes", ["name", "size"], [["a", "1"]], "a note"),
        Drawing([bars("bars", [Bar("x", 2, 1, "two")])], "a drawing", ["few", "many"]),
        Drawing([], "steps", ["few", "many"], ordered=True),
        Plot("p", "a plot"),
        Folded("more", [Text("inside")]),
    ]
    sections = [Section("one", "One", blocks), Section("two", "Two", [])]
    text = page("Title", sections, plots=tmp_path, lead="lead")
    found = parsed(text).text
    for each in ("bold", "code", "second", "a note", "a drawing", "a plot", "inside", "lead"):
        assert each in found
    assert 'id="p-a"' in text
    assert 'href="#p-a"' in text
    assert "#000000" not in text.split("</style>")[1]  # a plot's black is the page's ink
    assert text.count("<h1>") == 1
    assert '<a href="#two">Two</a>' in text


@pytest.mark.parametrize("text", ["<script>", "a*b**c**", "`x`", "a\nb", '"&'])
def test_an_id_is_shown_as_it_is(text: str) -> None:
    made = page("t", [Section("s", "S", [Table("", ["id"], [[literal(text)]])])])
    found = parsed(made)
    assert text in found.text
    assert made.count("<strong>") == made.count("<code>") == made.count("<script>") == 0


def test_a_long_id_is_cut() -> None:
    assert literal("x" * 100) == "x" * 47 + "…"
    assert literal("x" * 48) == "x" * 48


def test_a_plot_without_its_folder_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the folder"):
        page("t", [Section("s", "S", [Plot("p", "c")])])
