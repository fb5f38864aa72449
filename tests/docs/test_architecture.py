"""The drawing of the rooms shows the imports that there are, each and no other."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
DRAWINGS = ROOT / "docs" / "drawings"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


ROOMS = module(DRAWINGS / "rooms.py")
LAYERS = module(ROOT / "tests" / "test_layers.py")


def drawn() -> set[tuple[str, str]]:
    """The edges of the drawing as it is committed."""
    tree = ElementTree.parse(DRAWINGS / "rooms.svg")
    found = [each.attrib for each in tree.iter() if "data-from" in each.attrib]
    edges = [(each["data-from"], each["data-to"]) for each in found]
    assert len(set(edges)) == len(edges)
    return set(edges)


def imported() -> set[tuple[str, str]]:
    """The edges between rooms, by the imports that the test of the layers finds."""
    rooms = {*LAYERS.ROOMS, LAYERS.PAGES, *LAYERS.TOP} - {"__main__", "presets"}
    pairs = {
        (LAYERS.room_of(path), name)
        for path in LAYERS.FILES
        for name in LAYERS.imported(ast.parse(path.read_text(encoding="utf-8")))
    }
    return {(one, two) for one, two in pairs if one != two and {one, two} <= rooms}


def test_the_drawing_is_true() -> None:
    assert drawn() == imported(), "draw it again: python docs/drawings/rooms.py"


def test_the_drawing_is_the_one_that_its_program_makes() -> None:
    made = ROOMS.draw(ROOMS.edges())
    assert made == (DRAWINGS / "rooms.svg").read_text(encoding="utf-8")


def test_an_import_inside_a_function_is_an_edge(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "cli").mkdir()
    (tmp_path / "data" / "a.py").write_text("from nmtr import errors, __version__\n")
    (tmp_path / "cli" / "b.py").write_text("def f():\n    from nmtr.data.a import x\n")
    assert ROOMS.edges(tmp_path) == {("cli", "data")}


def test_every_room_is_drawn_where_its_arrows_end() -> None:
    svg = ROOMS.draw({("serving", "data"), ("serving", "models"), ("models", "data")})
    titles = [each.text for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")]
    assert titles == ["serving", "models", "data"]
