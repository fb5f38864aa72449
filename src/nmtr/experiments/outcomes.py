"""What finished cells found, by row and protocol, seeds averaged for each user."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmtr.evaluation.report import RESAMPLES, Result, interval
from nmtr.evaluation.significance import Difference, Vector, difference, seed_mean
from nmtr.evaluation.vectors import load_vectors
from nmtr.experiments.cells import Cell, open_cell
from nmtr.experiments.plan import Asked
from nmtr.files import write_text


@dataclass(frozen=True)
class Value:
    """A mean over users and seeds, and its 95 % interval over users."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass
class Outcomes:
    """The finished cells of a folder among those that were planned."""

    out: Path
    asked: Asked
    cells: Sequence[Cell]
    _results: dict[tuple[str, str], Result | None] = field(default_factory=dict)
    _found: dict[str, dict[str, Any]] = field(default_factory=dict)
    _values: dict[tuple[str, ...], Value | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cell in self.cells:
            found = open_cell(self.out, cell, self.asked.data)
            if found is not None:
                self._found[cell.name] = found

    @property
    def waiting(self) -> int:
        """How many cells are not finished."""
        return len({each.name for each in self.cells}) - len(self._found)

    @cached_property
    def alike(self) -> Outcomes:
        """These, less the cells of settings for another protocol than the plan's.

        Rows that are to differ by one thing, parts of the data or a variation, differ by no more.
        """
        own = [each for each in self.cells if each.settings.protocol == self.asked.protocol]
        return Outcomes(self.out, self.asked, own)

    def of(self, row: str, *, part: str = "", protocol: str = "") -> list[Cell]:
        """The finished cells of a row, one per seed, of all data or of a part of them.

        protocol: the one that they trained for; by default the plan's.
        """
        trained = protocol or self.asked.protocol
        return [
            each
            for each in self.cells
            if (each.row, each.part, each.settings.protocol) == (row, part, trained)
            and each.name in self._found
        ]

    def about(self, cell: Cell) -> dict[str, Any]:
        """What the cell recorded."""
        return self._found[cell.name]

    def results(self, row: str, protocol: str, *, part: str = "") -> list[Result]:
        """A row's results under a protocol: of cells that trained for it, else of the plan's."""
        own = self.of(row, part=part, protocol=protocol) or self.of(row, part=part)
        found = [self._result(each, protocol) for each in own if protocol in each.reads]
        return [each for each in found if each is not None]

    def _result(self, cell: Cell, protocol: str) -> Result | None:
        key = cell.name, protocol
        if key not in self._results:
            file = self.folder(cell) / f"vectors-{protocol}.npz"
            self._results[key] = load_vectors(file)[cell.row] if file.exists() else None
        return self._results[key]

    def folder(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.name

    def vectors(
        self, row: str, protocol: str, metric: str, *, part: str = "", slice_: str = "all"
    ) -> list[Vector]:
        """(U,) of each seed; none where the row is not finished, or the slice is empty."""
        found = self.results(row, protocol, part=part)
        if slice_ == "sealed":
            return [each.values["all"][metric][self.sealed(each)] for each in found]
        return [each.values[slice_][metric] for each in found if metric in each.values[slice_]]

    def sealed(self, result: Result) -> npt.NDArray[np.bool_]:
        """Which of a result's users are in the sealed half."""
        hashes = np.asarray(self.asked.data.user_hash)[result.users["all"]]
        return (hashes & np.uint64(1)).astype(np.bool_)

    def value(self, row: str, protocol: str, metric: str, *, slice_: str = "all") -> Value | None:
        """The row's value; None where there is none."""
        key = row, protocol, metric, slice_
        if key not in self._values:
            self._values[key] = self._value(*key)
        return self._values[key]

    def _value(self, row: str, protocol: str, metric: str, slice_: str) -> Value | None:
        runs = self.vectors(row, protocol, metric, slice_=slice_)
        if not runs or not len(runs[0]):
            return None
        return value_of(runs)

    def difference(self, a: Vector, b: Vector) -> Difference:
        """Paired tests of a and b, (U,) each; kept under OUT/paired, as they take a second each."""
        key = blake2b(a.tobytes() + b"-" + b.tobytes(), digest_size=12).hexdigest()
        file = self.out / "paired" / f"{key}.json"
        if file.exists():
            try:
                return Difference(**json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, TypeError):
                file.unlink()  # of another version, or damaged: made again
        found = difference(a, b)
        write_text(file, json.dumps(asdict(found)) + "\n")
        return found

    def protocols(self) -> tuple[str, ...]:
        """The protocols that anything was read under, in order."""
        order = ("as-published", "discovery", "leak-free", "time", "last")
        seen = {
            each.stem.removeprefix("vectors-")
            for cell in self.cells
            if cell.name in self._found
            for each in self.folder(cell).glob("vectors-*.npz")
        }
        return tuple(each for each in order if each in seen)

    def epochs(self, cell: Cell) -> list[dict[str, Any]]:
        """The lines of a cell's metrics.jsonl."""
        text = (self.folder(cell) / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(each) for each in text.splitlines()]

    def ranks(self, cell: Cell, protocol: str) -> dict[str, npt.NDArray[np.int64]] | None:
        """`ranks` and `candidates` of each held-out item (truths,); None where not read."""
        file = self.folder(cell) / f"ranks-{protocol}.npz"
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as found:
            return {name: found[name].astype(np.int64) for name in found.files}


def value_of(runs: Sequence[Vector]) -> Value:
    """The mean of runs (U,) each, averaged for each user first, and its interval."""
    seeds = tuple(float(each.mean()) for each in runs)
    if len(runs) == 1:
        found = interval(runs[0])
        return Value(found["mean"], found["low"], found["high"], seeds)
    # Averages have too many distinct values for interval(), which resamples values, not users.
    mean = seed_mean(runs)
    weights = _weights(len(mean))
    low, high = np.percentile(weights @ mean.astype(np.float32) / weights.sum(1), [2.5, 97.5])
    return Value(float(mean.mean()), float(low), float(high), seeds)


@lru_cache(maxsize=6)
def _weights(users: int) -> npt.NDArray[np.float32]:
    """(resamples, U) how often each user is drawn."""
    drawn = np.random.default_rng(0).poisson(1, (RESAMPLES, users)).astype(np.float32)
    found: npt.NDArray[np.float32] = drawn[drawn.sum(1) > 0]
    return found


def cut(value: float) -> str:
    """A metric's value as tables print it: .3406."""
    return f"{value:.4f}".replace("0.", ".", 1)


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1)
