"""A run: a folder with what was asked, what happened, and what was learned.

    config.toml              all settings, resolved; `nmtr train --config` repeats the run
    metrics.jsonl            a line per epoch
    checkpoint-*.safetensors where a killed run takes up again (gone when it is done)
    model.safetensors        the final weights
    calibration.json         from scores to probabilities, for models trained by a log loss
    reliability.json         how far these probabilities come true, on cells held out
    report-validation.json, vectors-validation.npz
                             the model that validation chose, on validation
    report-PROTOCOL.json, vectors-PROTOCOL.npz
                             on test, written by `nmtr evaluate --test`

First the selection phase trains on the log less test and validation, and validation chooses the
epoch; then the model is fitted again on all but test for as many epochs.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from nmtr.data.interactions import Interactions
from nmtr.data.records import Records
from nmtr.data.split import split
from nmtr.evaluation import calibration
from nmtr.evaluation.reliability import reliability
from nmtr.evaluation.report import baselines, evaluate
from nmtr.models.base import Model
from nmtr.training import folder
from nmtr.training.checkpoint import Progress
from nmtr.training.distributed import Group
from nmtr.training.folder import Run, open_run, save_run
from nmtr.training.selection import Selection, new_model, sample_users
from nmtr.training.settings import Settings, read_settings, resolve
from nmtr.training.shards import Feed
from nmtr.training.step import Report
from nmtr.training.trainer import Measure, train
from nmtr.training.warm import Learned

__all__ = ["Run", "Settings", "execute", "open_run", "read_settings", "sample_users", "save_run"]


def execute(
    data: Interactions,
    settings: Settings,
    path: Path | None = None,
    *,
    report: Report | None = None,
    learned: Learned | None = None,
    feed: Feed | None = None,
    checkpoint_seconds: float = 10.0,
) -> Run:
    """Train by the settings; with a path, keep the run there or go on with a killed one.

    In a process group every process calls this, and the first alone writes. learned: what every
    phase starts from, in place of a new model; its calibration is kept, since the cells that would
    be held out for another have been learned from. feed, checkpoint_seconds: of each phase, as
    `train` has them. Raises UsageError, before a file is written, where the settings do not fit
    each other or the data.
    """
    path = path if Group.current().first else None
    phases = _Phases(data, settings, path, report, learned, feed, checkpoint_seconds)
    settings = phases.settings
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    fitted = split(data, settings.protocol, fold="test").train
    if path:
        folder.begin(path, data, settings)
    epochs = phases.epochs()
    found = learned.calibration if learned else None
    if phases.calibrates:
        reduced = calibration.without_held(data, fitted)
        held_out = phases.fit("calibration", reduced, epochs)
        cells = calibration.score_held(held_out, data, fitted, reduced)
        found = calibration.fit(cells)
        if path:
            folder.save_reliability(path, reliability(cells, data.behaviors))
    model = phases.fit("refit", fitted, epochs)
    if found:
        found = calibration.centre(found, model, data, fitted)
    if path:
        folder.finish(path, model, found, epochs)
    return Run(path, settings, data, model, found, epochs)


def phase_records(data: Interactions, settings: Settings) -> dict[str, Records]:
    """What each phase of a run by these resolved settings trains on, in order."""
    fitted = split(data, settings.protocol, fold="test").train
    found = {}
    if settings.training.select != "none":
        found["selection"] = Selection.of(data, settings).records
    if calibrates(settings, new_model(data, settings)):
        found["calibration"] = calibration.without_held(data, fitted)
    return {**found, "refit": fitted}


def calibrates(settings: Settings, model: Model) -> bool:
    """Whether a run ends with a calibration, for which the model is fitted once more."""
    return model.probabilistic and settings.training.calibrate


class _Phases:
    """The trainings of one run: each a new model from the same seed."""

    def __init__(
        self, data: Interactions, settings: Settings, path: Path | None, report: Report | None,
        learned: Learned | None, feed: Feed | None, checkpoint_seconds: float,
    ) -> None:  # fmt: skip
        self.data, self.settings, self.path, self.report = data, settings, path, report
        self.learned, self.feed, self.checkpoint_seconds = learned, feed, checkpoint_seconds
        model = new_model(data, settings)
        self.trains = model.trained
        self.settings = resolve(data, settings, model)
        known = learned is not None and learned.calibration is not None
        self.calibrates = calibrates(self.settings, model) and not known

    def epochs(self) -> int:
        """How many epochs to train: those that validation chooses, or as many as were asked for.

        What was chosen is ranked once more, for the report on validation.
        """
        training = self.settings.training
        if training.select == "none":
            return training.epochs if self.trains else 0
        found = Selection.of(self.data, self.settings)
        measure = found.measure(training.select) if self.trains else None
        model, progress = self._train(
            "selection", found.records, training.epochs, 1 + self.calibrates, measure
        )
        if self.path and len(found.split.evaluation.users):
            own = evaluate(model, found.split, name=self.settings.model)
            folder.save_report(self.path, [own, *baselines(found.split)], found.split)
        return progress.best_epoch

    def fit(self, phase: str, records: Records, epochs: int) -> Model:
        """Train for a fixed number of epochs."""
        return self._train(phase, records, epochs, int(phase == "calibration"))[0]

    def _train(
        self, phase: str, records: Records, epochs: int, followed_by: int,
        measure: Measure | None = None,
    ) -> tuple[Model, Progress]:  # fmt: skip
        model = new_model(self.data, self.settings)
        if self.learned and model.trained:
            self.learned.give(model, self.data)
        progress = Progress(phase)
        if not model.trained:
            model.learn(records)
        else:
            progress = train(
                model,
                records,
                self.settings.training,
                phase=phase,
                epochs=epochs,
                measure=measure,
                checkpoint=self.path / f"checkpoint-{phase}.safetensors" if self.path else None,
                checkpoint_seconds=self.checkpoint_seconds,
                report=self.report,
                followed_by=followed_by,
                feed=self.feed,
            )
        if self.path:
            with (self.path / "metrics.jsonl").open("a") as stream:
                stream.writelines(json.dumps(line) + "\n" for line in progress.history)
        return model, progress
