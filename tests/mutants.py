"""Mutation testing: which small faults, put into a module one at a time, do its tests not see?

    python tests/mutants.py MODULE[:LINES] TEST...   such as nmtr.data.split:90-99 tests/data

A mutant has one comparison, operator or number changed. Each is run in a process of its own,
forked when everything is imported already (where there is os.fork). Survivors are listed by line.
Code that numba compiles is cached by its file: NUMBA_DISABLE_JIT=1 lets its mutants run.
MUTANTS.md keeps what came of it.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import io
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or,
    ast.Or: ast.And, ast.Invert: ast.UAdd, ast.USub: ast.UAdd,
}  # fmt: skip
QUIETLY = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
SECONDS = 120  # of CPU; a mutant that takes more hangs, which its tests would see


def mutants(tree: ast.Module) -> Iterator[tuple[ast.Module, int, str]]:
    """(the module with one change, its line, what changed)."""
    told = {id(node) for node in _told_only(tree)}
    for at, node in enumerate(ast.walk(tree)):
        for field in ("op", "ops", "value"):
            if id(node) in told or not _change(_alone(node), field):
                continue
            changed = copy.deepcopy(tree)
            what = _change(list(ast.walk(changed))[at], field)
            yield ast.fix_missing_locations(changed), getattr(node, "lineno", 0), what


def _alone(node: ast.AST) -> ast.AST:
    """A copy of a node that may be changed without its tree."""
    found = copy.copy(node)
    if isinstance(found, ast.Compare):
        found.ops = list(found.ops)
    return found


def _change(node: Any, field: str) -> str:
    """Change a node in place; says what, or nothing where there is nothing to change."""
    if field == "op" and isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.AugAssign):
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
            return "not x -> x"
        return _swapped(node, "op", node.op)
    if field == "ops" and isinstance(node, ast.Compare):
        return _swapped(node.ops, 0, node.ops[0])
    if field == "value" and isinstance(node, ast.Constant):
        old = node.value
        if isinstance(old, int | float):
            node.value = not old if isinstance(old, bool) else old + 1
            return f"{old} -> {node.value}"
    return ""


def _swapped(holder: Any, name: Any, old: ast.AST) -> str:
    """Put another operator in the place of one, where there is another."""
    if type(old) not in SWAPS:
        return ""
    new = SWAPS[type(old)]()
    if isinstance(name, str):
        setattr(holder, name, new)
    else:
        holder[name] = new
    return f"{type(old).__name__} -> {type(new).__name__}"


def _told_only(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that are in an error's words or in a type, which no test need tell apart."""
    for each in ast.walk(tree):
        if isinstance(each, ast.Raise | ast.AnnAssign | ast.JoinedStr):
            yield from ast.walk(each.annotation if isinstance(each, ast.AnnAssign) else each)


def survives(tree: ast.Module, module: str, tests: list[str]) -> bool:
    """Whether the tests pass with the mutant in place of the module."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        found = importlib.import_module(module)
        code = 1
        with contextlib.suppress(BaseException), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, str(found.__file__), "exec"), found.__dict__)
            code = int(pytest.main([*QUIETLY, *tests]))
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _imported(tests: list[str]) -> Iterator[str]:
    """What tests in single files import, but for nmtr's own modules, which may hold the module."""
    for path in filter(Path.is_file, map(Path, tests)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            yield from (name for name in names if name.split(".")[0] not in ("nmtr", "tests", ""))


def main(where: str, tests: list[str]) -> int:
    """Run every mutant of a module, or of some of its lines; returns how many survive."""
    module, _, lines = where.partition(":")
    low, high = map(int, lines.split("-")) if lines else (0, sys.maxsize)
    found = importlib.import_module(module)
    tree = ast.parse(Path(str(found.__file__)).read_text(encoding="utf-8"))
    for name in {"torch", *_imported(tests)}:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    phases = [Phase.explicit, Phase.generate]  # a failure need not be made small
    settings.register_profile("mutants", phases=phases, database=None)
    settings.load_profile("mutants")
    if not survives(tree, module, tests):
        sys.exit(f"{module}: its tests fail as it is; mend that first")
    left, total = 0, 0
    for mutant, line, what in mutants(tree):
        if not low <= line <= high:
            continue
        total += 1
        if survives(mutant, module, tests):
            left += 1
            print(f"{module}:{line}: {what}", flush=True)
    print(f"{where}: {total - left} of {total} mutants are seen")
    return left


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(min(main(sys.argv[1], sys.argv[2:]), 100))
