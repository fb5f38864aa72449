"""From a target to its documents: run what is missing, write what is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nmtr.experiments import pairs
from nmtr.experiments.cells import Cell
from nmtr.experiments.claims import claims
from nmtr.experiments.diagnostics import diagnostics
from nmtr.experiments.documents import Document, html, write
from nmtr.experiments.figure2 import figure2
from nmtr.experiments.outcomes import Outcomes
from nmtr.experiments.plan import TARGETS, Asked, plan
from nmtr.experiments.sensitivity import sensitivity
from nmtr.experiments.table1 import table1
from nmtr.experiments.table2 import table2
from nmtr.experiments.table3 import table3
from nmtr.files import write_text
from nmtr.options import unknown

Make = Callable[[Outcomes, Path], Document]


def targets_of(name: str) -> tuple[str, ...]:
    """The targets that a name stands for; raises UsageError for an unknown one."""
    if name == "all":
        return TARGETS
    if name not in TARGETS:
        raise unknown("target", name, (*TARGETS, "all"))
    return (name,)


def cells_of(asked: Asked, targets: Sequence[str]) -> list[Cell]:
    """The cells of several targets, each once."""
    found = {each.name: each for target in targets for each in plan(asked, target)}
    return list(found.values())


def documents(out: Path, asked: Asked, targets: Sequence[str]) -> list[Document]:
    """Write the targets' documents from the finished cells; index.html where all are asked for."""
    made: list[Document] = []
    outcomes = Outcomes(out, asked, cells_of(asked, targets))
    for target in targets:
        made += [make(outcomes, out) for make in _makers(target)]
    for each in made:
        write(each, out)
    if tuple(targets) == TARGETS:
        write_text(out / "index.html", html(made, out))
    return made


def _makers(target: str) -> tuple[Make, ...]:
    return {
        "table1": (lambda outcomes, out: table1(outcomes.asked.data),),
        "table2": (table2, _pairs, diagnostics),
        "table3": (table3,),
        "figure2": (figure2,),
        "sensitivity": (sensitivity,),
        "claims": (claims,),
    }[target]


def _pairs(outcomes: Outcomes, out: Path) -> Document:
    return pairs.document(outcomes)
