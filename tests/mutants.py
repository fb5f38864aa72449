"""Mutation testing: which small faults, put into a module one at a time, do its tests not see?

    python tests/mutants.py MODULE TEST...       such as nmtr.evaluation.metrics tests/evaluation

A mutant has one comparison, operator, number or condition of the module's functions changed. Each is
run in a process of its own, forked when everything is imported already. Needs os.fork; survivors
are listed with their line, and docs/mutants.md says why those that are left are left.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or,
    ast.Or: ast.And, ast.Invert: ast.UAdd, ast.Not: ast.UAdd, ast.USub: ast.UAdd,
}  # fmt: skip
SECONDS = 120  # a mutant that runs longer hangs, which its tests would see


def mutants(tree: ast.Module) -> Iterator[tuple[ast.Module, int, str]]:
    """(the module with one change, its line, what changed)."""
    for at, node in enumerate(ast.walk(tree)):
        for field in ("op", "ops", "value"):
            changed = copy.deepcopy(tree)
            same = list(ast.walk(changed))[at]
            if (what := _change(same, field)) and not _told_only(tree, node):
                yield ast.fix_missing_locations(changed), getattr(node, "lineno", 0), what


def _change(node: ast.AST, field: str) -> str:
    """Change a node in place; says what, or nothing where there is nothing to change."""
    if field == "op" and isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.AugAssign):
        old = type(node.op)
        if old in SWAPS:
            node.op = SWAPS[old]()  # type: ignore[assignment]
            if SWAPS[old] is ast.UAdd and old is ast.Not:
                node.op = ast.Not()
                node.operand = ast.UnaryOp(ast.Not(), node.operand)  # type: ignore[union-attr]
            return f"{old.__name__} -> {SWAPS[old].__name__}"
    if field == "ops" and isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        old = type(node.ops[0])
        node.ops[0] = SWAPS[old]()  # type: ignore[call-overload]
        return f"{old.__name__} -> {SWAPS[old].__name__}"
    if field == "value" and isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            node.value = not node.value
            return f"{not node.value} -> {node.value}"
        if isinstance(node.value, int | float):
            node.value += 1
            return f"{node.value - 1} -> {node.value}"
    return ""


def _told_only(tree: ast.Module, node: ast.AST) -> bool:
    """Whether a node is in an error's words or in a type, which no test need tell apart."""
    for each in ast.walk(tree):
        if isinstance(each, ast.Raise | ast.AnnAssign | ast.JoinedStr) and any(
            inside is node
            for part in ([each.annotation] if isinstance(each, ast.AnnAssign) else [each])
            for inside in ast.walk(part)
        ):
            return True
    return False


def survives(tree: ast.Module, module: str, tests: list[str]) -> bool:
    """Whether the tests pass with the mutant in place of the module."""
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        found = importlib.import_module(module)
        code = 1
        with contextlib.suppress(BaseException), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, str(found.__file__), "exec"), found.__dict__)
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def main(module: str, tests: list[str]) -> int:
    """Run every mutant; returns how many survive."""
    found = importlib.import_module(module)
    tree = ast.parse(Path(str(found.__file__)).read_text(encoding="utf-8"))
    importlib.import_module("torch")
    if not survives(tree, module, tests):
        sys.exit(f"{module}: its tests fail as it is; mend that first")
    left, total = 0, 0
    for mutant, line, what in mutants(tree):
        total += 1
        if survives(mutant, module, tests):
            left += 1
            print(f"{module}:{line}: {what}", flush=True)
    print(f"{module}: {total - left} of {total} mutants are seen")
    return left


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(min(main(sys.argv[1], sys.argv[2:]), 100))
