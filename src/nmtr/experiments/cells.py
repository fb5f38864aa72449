"""A cell: one training of one model on all or part of a data set, read on the test.

DIR/cells/NAME/             a run's folder (training/run.py), and when the test was read
    report-PROTOCOL.json, vectors-PROTOCOL.npz
    ranks-PROTOCOL.npz      of each held-out item: its rank, among how many
    cell.json               what it was and what it cost; written last
DIR/data/NAME/              parts of the data set that cells train on
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmtr.data.interactions import Interactions, load
from nmtr.data.records import Histories
from nmtr.data.split import Split, split
from nmtr.data.subset import subset
from nmtr.errors import DamagedError, DataError, UsageError
from nmtr.evaluation.ranking import ranks
from nmtr.evaluation.report import result_of
from nmtr.experiments.cost import machine, peak_memory, reset_peak
from nmtr.files import replace_file, write_text
from nmtr.training.folder import WEIGHTS, Run, open_run, save_report
from nmtr.training.run import execute
from nmtr.training.settings import Settings
from nmtr.training.step import Report

DONE = "cell.json"
BY_BEHAVIOR = ("lambdas", "weights", "level_weights")  # options with a value per behaviour


@dataclass(frozen=True)
class Cell:
    """row: what it is called in tables; source: where its settings come from, in words.

    behaviors: those it trains on, none for all; share, draw: of the auxiliary pairs, and by which
    of several draws.
    """

    row: str
    settings: Settings
    source: str = "defaults"
    behaviors: tuple[str, ...] = ()
    share: float = 1.0
    draw: int = 0

    @property
    def part(self) -> str:
        """Which part of the data it trains on; empty for all."""
        sampled = f"-{self.share:g}-draw{self.draw}" if self.share < 1 else ""
        return re.sub(r"[^\w+.-]", "-", "+".join(self.behaviors)) + sampled

    @property
    def name(self) -> str:
        parts = [self.row, self.settings.protocol, f"seed{self.settings.training.seed}", self.part]
        return "_".join(each for each in parts if each)

    @property
    def reads(self) -> tuple[str, ...]:
        """The protocols that it is read under: those whose training records are its own."""
        trained = self.settings.protocol
        return ("as-published", "discovery") if trained == "as-published" else (trained,)

    def fitted(self, behaviors: Sequence[str]) -> Settings:
        """The settings for the behaviours that it trains on, of all those of the data."""
        if not self.behaviors:
            return self.settings
        keep = [r for r, each in enumerate(behaviors) if each in self.behaviors]
        options = dict(self.settings.options)
        for name in BY_BEHAVIOR:
            values = options.get(name, ())
            if len(values) == len(behaviors):
                options[name] = tuple(values[r] for r in keep)
        training = self.settings.training
        if len(training.negatives) == len(behaviors):
            training = replace(training, negatives=tuple(training.negatives[r] for r in keep))
        return replace(self.settings, options=options, training=training)


def open_cell(out: Path, cell: Cell, data: Interactions) -> dict[str, Any] | None:
    """What a finished cell recorded; None where it is not finished.

    Raises UsageError where a cell of this name was trained with other settings or data.
    """
    path = out / "cells" / cell.name
    file = path / DONE
    if not file.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = found["asked"], found["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{file} cannot be read ({error}); remove {path}") from error
    if known != (_asked(cell), data.fingerprint()):
        raise UsageError(
            f"{path} was trained with other settings or data than are asked for now; name another "
            "folder with --out, or remove that one"
        )
    return found


def run_cell(
    out: Path,
    cell: Cell,
    data: Interactions,
    *,
    before_read: Callable[[], None],
    report: Report | None = None,
) -> dict[str, Any]:
    """Train a cell, or go on with a killed one, and read the test; returns what cell.json holds.

    before_read: called once, when it is trained and the test comes next.
    """
    path = out / "cells" / cell.name
    part = _part(out, cell, data)
    reset = reset_peak()
    began = time.monotonic()
    resumed = path.exists()
    if (path / WEIGHTS).exists():
        run = open_run(path, data=part.path)
    else:
        run = execute(part, cell.fitted(data.behaviors), path, report=report)
    trained = time.monotonic() - began
    before_read()
    seconds = {each: _read(path, run, cell, data, each) for each in cell.reads}
    found = {
        "row": cell.row,
        "model": cell.settings.model,
        "source": cell.source,
        "asked": _asked(cell),
        "data": data.fingerprint(),
        "behaviors": list(part.behaviors),
        "events": part.n_events,
        "epochs": run.epochs,
        "parameters": sum(each.numel() for each in run.model.parameters()),
        "train_seconds": None if resumed else trained,  # of a resumed one, only the rest is known
        "epoch_seconds": _epoch_seconds(path),
        "read_seconds": {name: each for name, each in seconds.items() if each is not None},
        "peak_memory_mib": peak_memory() if reset else None,
        "machine": machine(),
    }
    write_text(path / DONE, json.dumps(found, indent=2) + "\n")
    return found


def split_for(cell: Cell, data: Interactions, part: Interactions, protocol: str) -> Split:
    """The whole data's split, for a model that knows a part of them.

    Who is ranked, what is masked and which slice a pair is in are those of the whole log, so that
    parts compare; what trains, and what the model may look at, is the part.
    """
    whole = split(data, protocol)
    if not cell.part:
        return whole
    own = split(part, "as-published" if protocol == "discovery" else protocol)
    evaluation = whole.evaluation
    if protocol in ("time", "last"):
        items = tuple(own.evaluation.histories.items)
        histories = Histories(own.evaluation.histories.users, items)
    else:
        histories = own.train.histories(evaluation.users)
    return replace(whole, train=own.train, evaluation=replace(evaluation, histories=histories))


def _part(out: Path, cell: Cell, data: Interactions) -> Interactions:
    """The data that a cell trains on, on disk, so that a killed cell finds them again."""
    if not cell.part:
        return data
    path = out / "data" / cell.part
    made = subset(data, cell.behaviors, share=cell.share, seed=cell.draw)
    if path.exists():
        found = load(path)
        if found.fingerprint() == made.fingerprint():
            return found
        raise UsageError(f"{path} holds a part of other data; name another folder with --out")
    made.save(path)
    return load(path)


def _read(path: Path, run: Run, cell: Cell, data: Interactions, protocol: str) -> float | None:
    """Rank the test under a protocol and keep it; returns seconds, None where nobody is ranked."""
    try:
        parts = split_for(cell, data, run.data, protocol)
    except DataError:
        return None
    began = time.monotonic()
    place = ranks(run.model, parts.evaluation)
    seconds = time.monotonic() - began
    evaluation = parts.evaluation
    among = data.n_items - evaluation.mask.lengths()[evaluation.truth.row_of_each()]
    with replace_file(path / f"ranks-{protocol}.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, ranks=place.astype(np.int32), candidates=among.astype(np.int32))
    save_report(path, [result_of(place, parts, name=cell.row)], parts)
    return seconds


def _asked(cell: Cell) -> Any:
    """Settings and part, as JSON gives them back."""
    found = {
        "settings": asdict(cell.settings),
        "behaviors": cell.behaviors,
        "share": cell.share,
        "draw": cell.draw,
    }
    return json.loads(json.dumps(found))


def _epoch_seconds(path: Path) -> float:
    """Seconds of all epochs of all phases, those before a kill too."""
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(float(json.loads(each)["seconds"]) for each in lines)
