"""The rooms of the house stand in one order, and no file has grown past reading."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nmtr

HOME = Path(nmtr.__file__).parent
ROOMS = ("data", "models", "evaluation", "training", "serving")
BESIDE = {
    "experiments": (*ROOMS[:4], "pages"),
    "reports": (*ROOMS[:4], "pages"),
}  # on top of training; serving knows nothing of them, nor they of that
TOP = ("experiments", "reports", "estimator", "cli", "__main__", "presets")
HELPERS = ("cache", "errors", "files", "options")
PAGES = "pages"  # knows nothing of what its pages tell
FILES = sorted(HOME.rglob("*.py"))
BEHAVIORS = re.compile(r"\b(views?|carts?|buys?)\b", re.IGNORECASE)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))


def room_of(path: Path) -> str:
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """The rooms of nmtr that a file imports, those inside functions too; '' for nmtr itself."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read off"
            names = [node.module or ""]
            if node.module == "nmtr":
                names = [f"nmtr.{each.name}" for each in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "nmtr":
                yield rest[0] if rest and not rest[0].startswith("__") else ""


def allowed(room: str) -> set[str]:
    if room in HELPERS:
        return {"", *HELPERS}
    if room in ROOMS:
        return {"", *HELPERS, *ROOMS[: ROOMS.index(room) + 1]}
    if room == PAGES:
        return {"", *HELPERS, PAGES}
    if room in BESIDE:
        return {"", *HELPERS, *BESIDE[room], room}
    return {"", *HELPERS, *ROOMS, PAGES, *TOP}


def test_every_file_is_in_a_room_that_is_known() -> None:
    assert {room_of(path) for path in FILES} <= {"__init__", *HELPERS, *ROOMS, PAGES, *TOP}
    assert {room_of(path) for path in FILES} >= {*HELPERS, "data", "models", "training"}


@each_file
def test_a_room_imports_only_from_those_before_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert set(imported(tree)) <= allowed(room_of(path))


def test_an_import_against_the_order_would_be_found() -> None:
    source = "def f():\n    from nmtr.serving.store import Store\n    import nmtr.cli.runs\n"
    assert set(imported(ast.parse(source))) - allowed("training") == {"serving", "cli"}


@each_file
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def strings(tree: ast.Module) -> Iterator[str]:
    """The string constants of a file that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            text = node.value
            if isinstance(text, str):
                yield text


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room_of(path) in ("models", "training", "evaluation")],
    ids=lambda path: str(path.relative_to(HOME)),
)
def test_no_model_sampler_or_metric_knows_a_behaviour_by_name(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [each for each in strings(tree) if BEHAVIORS.search(each)] == []


def test_a_behaviour_s_name_in_code_would_be_found() -> None:
    source = '"""A view."""\n\n\ndef f(x):\n    """Of a cart."""\n    return x[f"to {x} buy"]\n'
    found = [each for each in strings(ast.parse(source)) if BEHAVIORS.search(each)]
    assert found == [" buy"]
