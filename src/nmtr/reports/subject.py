"""What a report is about: a finished run, and what was ranked with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nmtr.data.audit import Audit, audit
from nmtr.data.records import Records
from nmtr.data.split import PROTOCOLS, Fold, split
from nmtr.evaluation.report import BASELINES, Result
from nmtr.evaluation.vectors import load_vectors
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.run import Run

VALIDATION = "validation"


@dataclass(frozen=True)
class Ranked:
    """A ranking that the run keeps, on validation or on the test of a protocol.

    counts: (M,) target records of each user in the training that came before it.
    """

    title: str
    in_words: str
    results: Mapping[str, Result]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    """A run, its folder, and what several sections ask of it."""

    run: Run
    path: Path

    @property
    def model(self) -> str:
        return self.run.settings.model

    @property
    def names(self) -> tuple[str, ...]:
        """The model, and the memory that stands beside it."""
        return (self.model, *(each for each in BASELINES if each != self.model))

    @cached_property
    def audit(self) -> Audit:
        return audit(self.run.data)

    @cached_property
    def train(self) -> Records:
        """The records that the model was fitted to: all but the test."""
        return self.run.split().train

    @cached_property
    def models(self) -> dict[str, Model]:
        """The model, popularity and replay."""
        shape = Shape(self.train.n_users, self.train.n_items, self.train.behaviors)
        found = {self.model: self.run.model}
        for name in self.names[1:]:
            found[name] = make(name, {}, shape)
            found[name].learn(self.train)
        return found

    @cached_property
    def ranked(self) -> tuple[Ranked, ...]:
        """Validation first, then the tests that were read; none is read here."""
        found = []
        for name in (VALIDATION, *PROTOCOLS):
            file = self.path / f"vectors-{name}.npz"
            if not file.exists():
                continue
            fold: Fold = "validation" if name == VALIDATION else "test"
            protocol = self.run.settings.protocol if name == VALIDATION else name
            parts = split(self.run.data, protocol, fold=fold)
            results = {
                each: result for each, result in load_vectors(file).items() if each in self.names
            }
            counts = parts.train.target.lengths()
            found.append(Ranked(f"{fold}, {protocol}", parts.describe(), results, counts))
        return tuple(found)
