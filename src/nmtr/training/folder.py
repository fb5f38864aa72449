"""A run's folder: written while it trains, opened when it is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import tomli_w

from nmtr import __version__
from nmtr.data.interactions import Interactions
from nmtr.data.interactions import load as load_data
from nmtr.data.split import Fold, Split, split
from nmtr.errors import DamagedError, UsageError
from nmtr.evaluation.calibration import Calibration
from nmtr.evaluation.reliability import Reliability
from nmtr.evaluation.report import Result, to_json
from nmtr.evaluation.vectors import save_vectors
from nmtr.files import write_text
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.settings import Settings, read_settings, same
from nmtr.training.weights import read_tensors, write_tensors

CONFIG, WEIGHTS, RELIABILITY = "config.toml", "model.safetensors", "reliability.json"


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
        """The run's split; UsageError for a fold that is neither test nor validation."""
        return split(self.data, self.settings.protocol, fold=cast(Fold, fold))

    def trained_users(self) -> npt.NDArray[np.bool_]:
        """(M,) which users have a training record."""
        return self.split().train.seen().lengths() > 0


def begin(path: Path, data: Interactions, settings: Settings) -> None:
    """Make the folder, or take up an unfinished run of the same settings and data.

    Raises UsageError where the folder holds anything else.
    """
    file = path / CONFIG
    if (path / WEIGHTS).exists():
        raise UsageError(f"{path} holds a finished run; name another folder for this one")
    if not file.exists():
        check_free(path, "run")
    path.mkdir(parents=True, exist_ok=True)
    if file.exists() and any(path.glob("checkpoint-*.safetensors")):
        old, about = read_settings(file)
        if not same(old, settings) or about.get("fingerprint") != data.fingerprint():
            raise UsageError(
                f"{path} holds an unfinished run with other settings or data; resume with those, "
                "or name another folder"
            )
    else:
        write_config(path, data, settings)
    (path / "metrics.jsonl").unlink(missing_ok=True)  # each phase writes its whole history again


def check_free(path: Path, what: str) -> None:
    """Raise UsageError unless there is nothing at `path`, or a folder of hidden files at most."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; name a folder for the {what}")
    if path.exists():
        others = [each.name for each in path.iterdir() if not each.name.startswith(".")]
        if others:
            raise UsageError(f"{path} holds something else ({others[0]}); name another folder")


def write_config(path: Path, data: Interactions, settings: Settings) -> None:
    """Write the settings, and which data they were for."""
    about = {"nmtr": __version__, "data": _data_path(path, data), "fingerprint": data.fingerprint()}
    write_text(path / CONFIG, tomli_w.dumps(about | asdict(settings)))


def _data_path(path: Path, data: Interactions) -> str:
    """Where the data are; relative if they lie inside the run, which may then be moved as one."""
    if data.path is None:
        return ""
    inside, run = data.path.resolve(), path.resolve()
    return str(inside.relative_to(run) if inside.is_relative_to(run) else inside)


def finish(path: Path, model: Model, found: Calibration | None, epochs: int) -> None:
    """Write what was learned; the checkpoints go."""
    if found:
        write_text(path / "calibration.json", json.dumps(found.to_json(), indent=2) + "\n")
    write_tensors(path / WEIGHTS, model.state_dict(), {"epochs": epochs, "version": __version__})
    for each in path.glob("checkpoint-*.safetensors"):
        each.unlink()


def save_report(path: Path, results: Sequence[Result], parts: Split) -> dict[str, Any]:
    """Write what was found on validation, or on test under a protocol; returns the report."""
    name = "validation" if parts.fold == "validation" else parts.protocol
    report = to_json(list(results), parts)
    write_text(path / f"report-{name}.json", json.dumps(report, indent=2) + "\n")
    save_vectors(results, path / f"vectors-{name}.npz")
    return report


def open_report(path: Path, name: str) -> dict[str, Any] | None:
    """A run's report on `validation`, or on test under a protocol; None where there is none."""
    file = path / f"report-{name}.json"
    if not file.exists():
        return None
    try:
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{file} cannot be read ({error}); evaluate the run again") from error
    return report


def open_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; none where the run was saved without them."""
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    try:
        lines = [json.loads(each) for each in file.read_text(encoding="utf-8").splitlines()]
        return [each for each in lines if (each["phase"], each["epoch"], each["loss"])]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{file} cannot be read ({error}); train again") from error


def summary(path: Path) -> dict[str, Any]:
    """What a finished run is: its folder, model, protocol, epochs and settings."""
    settings, about = read_settings(path / CONFIG)
    _, learned = read_tensors(path / WEIGHTS)
    return {"run": str(path), "epochs": int(learned["epochs"]), **about, **asdict(settings)}


def save_reliability(path: Path, found: Sequence[Reliability]) -> None:
    """Write how far the probabilities come true."""
    text = json.dumps([each.to_json() for each in found], indent=2)
    write_text(path / RELIABILITY, text + "\n")


def open_reliability(path: Path) -> list[Reliability] | None:
    """What save_reliability wrote; None where there is none."""
    file = path / RELIABILITY
    if not file.exists():
        return None
    try:
        return [Reliability.from_json(each) for each in json.loads(file.read_text("utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{file} cannot be read ({error}); train again") from error


def check_replaceable(path: Path) -> None:
    """Raise UsageError unless there is nothing at `path`, or an empty folder, or a saved model."""
    saved = (path / WEIGHTS).exists() and (path / "data" / "manifest.json").exists()
    if path.is_dir() and (saved or not any(path.iterdir())):
        return
    if path.exists():
        raise UsageError(f"{path} holds something else than a saved model; name another folder")


def save_run(run: Run, path: Path) -> None:
    """Write a run that was kept in memory into a folder that holds none."""
    write_config(path, run.data, run.settings)
    finish(path, run.model, run.calibration, run.epochs)


def open_run(path: Path, *, data: Path | None = None) -> Run:
    """Open a finished run; `data` where the prepared data set has moved.

    Raises UsageError if there is none, DamagedError if its weights do not fit or its data changed.
    """
    file = path / CONFIG
    if not file.exists():
        advice = f"make one with `nmtr train DATA --out {path}`"
        if (path / "manifest.json").exists():
            advice = f"it may be a data set: `nmtr train {path} --out RUN`, then give RUN"
        elif path.is_file():
            advice = "it is a file, and a run is the folder that `nmtr train DATA --out RUN` makes"
        raise UsageError(f"{path} is no run (it has no {CONFIG}); {advice}")
    settings, about = read_settings(file)
    if not (path / WEIGHTS).exists():
        command = f"nmtr train {about.get('data') or 'DATA'} --config {file} --out {path}"
        raise UsageError(f"{path} is not finished; go on with `{command}`")
    opened = _open_data(path, about, data)
    shape = Shape(opened.n_users, opened.n_items, opened.behaviors)
    model = make(settings.model, settings.options, shape)
    try:
        tensors, learned = read_tensors(path / WEIGHTS)
        model.load_state_dict(tensors)
        epochs = int(learned["epochs"])
    except Exception as error:  # safetensors, json and torch each raise their own kinds
        raise DamagedError(
            f"{path / WEIGHTS} cannot be read as a {settings.model} ({error}); train again"
        ) from error
    model.eval()
    return Run(path, settings, opened, model, _open_calibration(path, shape), epochs)


def _open_data(path: Path, about: dict[str, Any], data: Path | None) -> Interactions:
    if not data and not about.get("data"):
        raise UsageError(f"{path / CONFIG} does not say where its data are; name them with --data")
    try:
        opened = load_data(data or path / about["data"])  # an absolute path stays what it is
    except UsageError as error:
        if data:
            raise
        raise UsageError(f"{error}; if the data set has moved, name it with --data") from error
    if opened.fingerprint() != about.get("fingerprint"):
        raise DamagedError(
            f"{path} was trained on other data than {opened.path} now holds; "
            "name the right ones with --data"
        )
    return opened


def _open_calibration(path: Path, shape: Shape) -> Calibration | None:
    file = path / "calibration.json"
    if not file.exists():
        return None
    try:
        found = Calibration.from_json(json.loads(file.read_text(encoding="utf-8")))
        sizes = {len(each) for each in (found.slope, found.prior, found.offset)}
        if sizes != {shape.n_behaviors}:
            raise ValueError(f"expected {shape.n_behaviors} behaviours")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{file} is not readable ({error}); delete it to show scores only"
        ) from error
    return found
