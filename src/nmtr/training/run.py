"""A run: a folder with what was asked, what happened, and what was learned.

    config.toml              all settings, resolved; `nmtr train --config` repeats the run
    metrics.jsonl            a line per epoch
    checkpoint.safetensors   where a killed run takes up again (gone when it is done)
    model.safetensors        the final weights
    calibration.json         from scores to probabilities, for models trained by a log loss
    report-*.json, vectors-*.npz   written by `nmtr evaluate`

First the selection phase trains on the log less test and validation, and validation chooses the
epoch; then the model is fitted again on all but test for as many epochs.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nmtr import __version__
from nmtr.data.interactions import Interactions
from nmtr.data.interactions import load as load_data
from nmtr.data.records import Records
from nmtr.data.split import Evaluation, Split, default_protocol, split
from nmtr.data.vocabulary import mix
from nmtr.errors import DamagedError, UsageError
from nmtr.evaluation import calibration
from nmtr.evaluation.calibration import Calibration
from nmtr.evaluation.metrics import parse, per_user
from nmtr.evaluation.ranking import ranks
from nmtr.files import replace_file, write_text
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.options import build
from nmtr.training.trainer import Progress, Report, Training, train


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run. validation_users: how many are ranked for selection, 0 for all."""

    model: str = "nmtr-gmf"
    protocol: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    validation_users: int = 0


@dataclass(frozen=True)
class Run:
    """A finished run, opened: the model, its data, and the calibration if it has one."""

    path: Path | None
    settings: Settings
    data: Interactions
    model: Model
    calibration: Calibration | None
    epochs: int

    def split(self, *, fold: str = "test") -> Split:
        return split(
            self.data, self.settings.protocol, fold="validation" if fold == "validation" else "test"
        )


def execute(
    data: Interactions,
    settings: Settings,
    path: Path | None = None,
    *,
    report: Report | None = None,
) -> Run:
    """Train by the settings; with a path, keep the run there and take up where a killed one stopped."""
    settings = _resolve(data, settings)
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    shape = Shape(data.n_users, data.n_items, data.behaviors)
    phases = _Phases(
        data, settings, shape, path, report
    )  # a wrong option fails here, before a file
    if path:
        path.mkdir(parents=True, exist_ok=True)
        _write_config(path, data, settings)
    fitted = split(data, settings.protocol, fold="test").train
    epochs = (
        phases.select()
        if phases.trains and settings.training.select != "none"
        else settings.training.epochs
    )
    found = None
    if phases.trains and settings.training.calibrate:
        reduced = calibration.without_held(data, fitted)
        held_out = phases.fit("calibration", reduced, epochs)
        found = calibration.fit(held_out, data, fitted, reduced)
    model = phases.fit("refit", fitted, epochs)
    if found:
        found = calibration.centre(found, model, data, fitted)
    if path:
        _finish(path, model, found, epochs)
    return Run(path, settings, data, model, found, epochs)


class _Phases:
    """The trainings of one run: each a new model from the same seed."""

    def __init__(
        self,
        data: Interactions,
        settings: Settings,
        shape: Shape,
        path: Path | None,
        report: Report | None,
    ) -> None:
        self.data, self.settings, self.shape, self.path, self.report = (
            data,
            settings,
            shape,
            path,
            report,
        )
        self.trains = self._new().trained

    def _new(self) -> Model:
        torch.manual_seed(self.settings.training.seed)
        return make(self.settings.model, self.settings.options, self.shape)

    def select(self) -> int:
        """Train against validation; how many epochs were best."""
        validation = split(self.data, self.settings.protocol, fold="validation")
        evaluation = _sample(self.data, validation.evaluation, self.settings.validation_users)
        metric = self.settings.training.select

        def measure(model: Model) -> Mapping[str, float]:
            values = per_user(ranks(model, evaluation), evaluation.truth.indptr)
            return {name: float(values[name].mean()) for name in {metric, "hr@100", "ndcg@100"}}

        return self._train("selection", validation.train, self.settings.training.epochs, measure)[
            1
        ].best_epoch

    def fit(self, phase: str, records: Records, epochs: int) -> Model:
        """Train for a fixed number of epochs."""
        return self._train(phase, records, epochs, None)[0]

    def _train(
        self, phase: str, records: Records, epochs: int, measure: Any
    ) -> tuple[Model, Progress]:
        model = self._new()
        model.learn(records)
        progress = Progress(phase)
        if model.trained:
            checkpoint = self.path / f"checkpoint-{phase}.safetensors" if self.path else None
            progress = train(
                model, records, self.settings.training,
                phase=phase, epochs=epochs, measure=measure, checkpoint=checkpoint, report=self.report,
            )  # fmt: skip
        if self.path:
            with (self.path / "metrics.jsonl").open("a") as stream:
                stream.writelines(json.dumps(line) + "\n" for line in progress.history)
        return model, progress


def sample_users(data: Interactions, evaluation: Evaluation, users: int) -> Evaluation:
    """The evaluation of `users` of its users, chosen by hash; of all where 0."""
    if not 0 < users < len(evaluation.users):
        return evaluation
    hashes = data.user_hash[evaluation.users]
    rows = np.sort(np.argsort(mix(hashes, hashes, salt=5))[:users])
    wanted = np.isin(evaluation.truth.row_of_each(), rows)
    histories = evaluation.histories
    return Evaluation(
        evaluation.users[rows],
        type(histories)(histories.users[rows], tuple(each.take(rows) for each in histories.items)),
        evaluation.truth.take(rows),
        evaluation.mask.take(rows),
        evaluation.in_funnel[wanted],
        evaluation.sealed[rows],
    )


def _resolve(data: Interactions, settings: Settings) -> Settings:
    protocol = settings.protocol or default_protocol(data)
    if settings.training.select != "none":
        parse(settings.training.select)
    return Settings(
        settings.model, protocol, settings.options, settings.training, settings.validation_users
    )


def read_settings(path: Path) -> tuple[Settings, dict[str, Any]]:
    """Settings from a TOML file, and the rest of the file (data, versions)."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    about = {name: found.pop(name) for name in ("data", "fingerprint", "nmtr") if name in found}
    training = build(Training, found.pop("training", {}), where=f"{path}, [training]")
    return build(Settings, {**found, "training": training}, where=str(path)), about


def save_run(run: Run, path: Path) -> None:
    """Write a run that was kept in memory into an empty folder."""
    _write_config(path, run.data, run.settings)
    _finish(path, run.model, run.calibration, run.epochs)


def _write_config(path: Path, data: Interactions, settings: Settings) -> None:
    about = {"nmtr": __version__, "data": _data_path(path, data), "fingerprint": data.fingerprint()}
    options = {
        name: list(each) if isinstance(each, tuple) else each
        for name, each in settings.options.items()
    }
    content = about | asdict(settings) | {"options": options}
    file = path / "config.toml"
    if file.exists() and (any(path.glob("checkpoint-*")) or (path / "model.safetensors").exists()):
        old, before = read_settings(file)
        if (path / "model.safetensors").exists():
            raise UsageError(f"{path} holds a finished run; name another folder for this one")
        if (
            _comparable(old) != _comparable(settings)
            or before.get("fingerprint") != about["fingerprint"]
        ):
            raise UsageError(
                f"{path} holds an unfinished run with other settings or data; resume with those, or name another folder"
            )
    else:
        write_text(file, tomli_w.dumps(content))
    (path / "metrics.jsonl").unlink(missing_ok=True)  # each phase writes its whole history again


def _data_path(path: Path, data: Interactions) -> str:
    """Where the data are; relative if they lie inside the run, which may then be moved as one."""
    if data.path is None:
        return ""
    if data.path.is_relative_to(path):
        return str(data.path.relative_to(path))
    return str(data.path.resolve())


def _comparable(settings: Settings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)


def _finish(path: Path, model: Model, found: Calibration | None, epochs: int) -> None:
    if found:
        write_text(path / "calibration.json", json.dumps(found.to_json(), indent=2) + "\n")
    with replace_file(path / "model.safetensors") as temporary:
        tensors = {name: each.cpu().contiguous() for name, each in model.state_dict().items()}
        save_file(tensors, temporary, {"epochs": str(epochs), "nmtr": __version__})
    for each in path.glob("checkpoint-*.safetensors"):
        each.unlink()


def open_run(path: Path, *, data: Path | None = None) -> Run:
    """Open a finished run; `data` where the prepared data set has moved.

    Raises UsageError if there is none, DamagedError if its weights do not fit or its data changed.
    """
    if not (path / "config.toml").exists():
        raise UsageError(
            f"{path} is no run (it has no config.toml); make one with `nmtr train DATA --out {path}`"
        )
    settings, about = read_settings(path / "config.toml")
    if not (path / "model.safetensors").exists():
        raise UsageError(
            f"{path} is not finished; go on with `nmtr train {about.get('data', 'DATA')} --config {path / 'config.toml'} --out {path}`"
        )
    opened = load_data(data or path / about["data"])  # an absolute path stays what it is
    if opened.fingerprint() != about["fingerprint"]:
        raise DamagedError(
            f"{path} was trained on other data than {opened.path} now holds; name the right ones with --data"
        )
    model = make(
        settings.model, settings.options, Shape(opened.n_users, opened.n_items, opened.behaviors)
    )
    try:
        with safe_open(path / "model.safetensors", "pt") as stream:
            epochs = int(stream.metadata()["epochs"])
            model.load_state_dict({name: stream.get_tensor(name) for name in stream.keys()})  # noqa: SIM118
    except Exception as error:  # safetensors and torch raise several kinds
        raise DamagedError(
            f"{path / 'model.safetensors'} cannot be read as a {settings.model} ({error}); train again"
        ) from error
    model.eval()
    scale = path / "calibration.json"
    try:
        found = Calibration.from_json(json.loads(scale.read_text())) if scale.exists() else None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{scale} is not readable ({error}); delete it to show scores only"
        ) from error
    return Run(path, settings, opened, model, found, epochs)
