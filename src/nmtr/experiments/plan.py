"""Which cells each target needs: data, from which everything else follows.

A row is a line of Table II: the paper's twelve, memory, and strong simple models, those of weighted
behaviours once with all and once with the target alone. Cells are shared between targets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nmtr.data.interactions import Interactions
from nmtr.data.split import default_protocol
from nmtr.errors import UsageError
from nmtr.experiments.cells import Cell
from nmtr.options import unknown
from nmtr.training.presets import presets
from nmtr.training.selection import new_model
from nmtr.training.settings import Settings, override, read_settings


@dataclass(frozen=True)
class Row:
    """name: also its preset's; options: for where it has no preset."""

    name: str
    model: str
    group: str
    options: Mapping[str, Any] = field(default_factory=dict)


NMTR, SEVERAL, ONE, MEMORY = "NMTR", "several behaviours", "one behaviour", "memory"
SIMPLE, SIMPLE_ONE = "simple, several behaviours", "simple, one behaviour"
WEIGHTED = ("itemknn", "ease", "ials", "lightgcn")
CASCADES = ("nmtr-gmf", "nmtr-mlp", "nmtr-neumf")
ROWS = (
    *(Row(each, each, NMTR) for each in CASCADES),
    *(Row(each, each, SEVERAL) for each in ("cmf", "mc-bpr", "mc-gmf", "mc-mlp", "mc-neumf")),
    *(Row(each, each, ONE) for each in ("bpr", "gmf", "mlp", "neumf")),
    *(Row(each, each, MEMORY) for each in ("popularity", "replay")),
    *(Row(each, each, SIMPLE) for each in WEIGHTED),
    *(Row(f"{each}-target", each, SIMPLE_ONE, {"weights": ()}) for each in WEIGHTED),
)
PAPERS = tuple(each.name for each in ROWS if each.group in (NMTR, SEVERAL, ONE))
FIGURE2 = ("neumf", "mc-neumf", "cmf", "mc-bpr", "nmtr-neumf")
TARGETS = ("table1", "table2", "table3", "figure2", "sensitivity", "claims")
CASCADE_KINDS = ("probability", "logit", "none")
SENSITIVE, STAGED = "nmtr-gmf", "staged"
QUICK = {"epochs": 2, "batch_size": 1024, "patience": 2, "validation_users": 200}


@dataclass(frozen=True)
class Asked:
    """What the command asked for. only: rows, empty for all; draws: sub-samples of Table III."""

    data: Interactions
    preset_set: str = ""
    only: tuple[str, ...] = ()
    seeds: int = 1
    draws: int = 3
    quick: bool = False
    leak_free: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        names = [each.name for each in ROWS]
        for each in self.only:
            if each not in names:
                raise unknown("model", each, names)
        if min(self.seeds, self.draws, self.threads) < 1:
            raise UsageError(
                f"expected seeds, draws and threads of 1 or more, got {self.seeds}, {self.draws} "
                f"and {self.threads}"
            )
        sets = {each.split("/")[0] for each in presets() if "/" in each}
        if self.preset_set and self.preset_set not in sets:
            raise UsageError(
                f"no presets of data set '{self.preset_set}'; there are those of {', '.join(sets)}"
            )

    @property
    def protocol(self) -> str:
        """The protocol that models are trained for."""
        found = default_protocol(self.data)
        return "as-published" if found == "discovery" else found

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(each for each in ROWS if not self.only or each.name in self.only)


def plan(asked: Asked, target: str) -> list[Cell]:
    """The cells of a target, each once; none for table1, which trains nothing."""
    cells: list[Cell] = []
    if target in ("table2", "claims"):
        cells += _table2(asked)
    if target in ("table3", "claims"):
        cells += _table3(asked)
    if target == "figure2":
        chosen = [row for row in asked.rows if row.name in FIGURE2]
        cells += [each for row in chosen for each in _seeds(asked, row)]
    if target in ("sensitivity", "claims"):
        cells += _sensitivity(asked)
    return list({each.name: each for each in cells}.values())


def _table2(asked: Asked) -> list[Cell]:
    found = [each for row in asked.rows for each in _seeds(asked, row)]
    if asked.protocol != "as-published":  # cut in time: there is no other protocol
        return found
    for row in asked.rows:
        if f"{asked.preset_set}/discovery/{row.name}" in presets():
            found += _seeds(asked, row, "discovery")
        if asked.leak_free:
            found += _seeds(asked, row, "leak-free")
    return found


def _table3(asked: Asked) -> list[Cell]:
    names = asked.data.behaviors
    found: list[Cell] = []
    for row in asked.rows:
        if row.group != NMTR:
            continue
        found += _seeds(asked, row)
        for cell in _seeds(asked, row):
            found.append(replace(cell, behaviors=names[-1:]))
            for auxiliary in reversed(names[:-1]):
                both = replace(cell, behaviors=(auxiliary, names[-1]))
                found.append(both)
                found += [replace(both, share=0.5, draw=each) for each in range(asked.draws)]
    return found


def sensitivities(asked: Asked) -> dict[str, dict[str, Any]]:
    """{name: options} of NMTR that are tried beside its settings; what these already are is not."""
    row = next(each for each in ROWS if each.name == SENSITIVE)
    own = settings_of(asked, row, asked.protocol)[0].options.get("cascade", CASCADE_KINDS[0])
    kinds = [each for each in CASCADE_KINDS if each != own]
    found: dict[str, dict[str, Any]] = {f"cascade {each}": {"cascade": each} for each in kinds}
    for r, name in enumerate(asked.data.behaviors):
        for weight in (0.25, 4.0):
            lambdas = tuple(
                weight if each == r else 1.0 for each in range(len(asked.data.behaviors))
            )
            found[f"lambda of {name} x {weight:g}"] = {"lambdas": lambdas}
    return found


def label_of(row: str, variation: str) -> str:
    """The row that a variation of a model is kept as."""
    return re.sub(r"[^\w.-]+", "-", f"{row}.{variation}")


def _sensitivity(asked: Asked) -> list[Cell]:
    rows = [each for each in asked.rows if each.name == SENSITIVE]
    found: list[Cell] = []
    for row in rows:
        found += _seeds(asked, row)
        for name, options in sensitivities(asked).items():
            for cell in _seeds(asked, row):
                settings = override(cell.settings, options)
                found.append(replace(cell, row=label_of(row.name, name), settings=settings))
        found += [staged(asked, cell) for cell in _seeds(asked, row)]
    return found


def staged(asked: Asked, cell: Cell) -> Cell:
    """A cell of NMTR trained level by level, each for as many epochs as the joint one at most."""
    training = cell.settings.training
    options = {name: each for name, each in cell.settings.options.items() if name != "lambdas"}
    options |= {"unit": cell.row.removeprefix("nmtr-"), "stage_epochs": training.epochs}
    training = replace(training, epochs=training.epochs * len(asked.data.behaviors))
    settings = replace(cell.settings, model="nmtr-staged", options=options, training=training)
    return replace(cell, row=label_of(cell.row, STAGED), settings=settings)


def _seeds(asked: Asked, row: Row, protocol: str = "") -> list[Cell]:
    """A row's cells, one per seed; one alone where nothing is drawn at random."""
    settings, source = settings_of(asked, row, protocol or asked.protocol)
    count = asked.seeds if new_model(asked.data, settings).trained else 1
    return [
        Cell(row.name, replace(settings, training=replace(settings.training, seed=seed)), source)
        for seed in range(count)
    ]


def settings_of(asked: Asked, row: Row, protocol: str) -> tuple[Settings, str]:
    """A row's settings, and where they come from in words."""
    files, source = presets(), "the model's defaults"
    settings = Settings(row.model, protocol, row.options)
    if row.group == SIMPLE:
        source = "the model's defaults, equal weights"
        settings = replace(settings, options={"weights": (1.0,) * len(asked.data.behaviors)})
    for tuned in (protocol, "as-published"):
        name = f"{asked.preset_set}/{tuned}/{row.name}"
        if asked.preset_set and name in files:
            settings, source = read_settings(files[name])[0], f"preset {name}"
            break
    changes: dict[str, Any] = {"calibrate": False, "threads": asked.threads}
    if asked.quick:
        changes |= QUICK
        source += ", shortened (--quick)"
    model = new_model(asked.data, settings)
    if asked.quick and model.warm_up:
        changes["epochs"] = QUICK["epochs"] + model.warm_up
    return override(settings, changes, protocol=protocol), source
