"""A run's settings, epochs and figures to TensorBoard or MLflow, from what its folder holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nmtr.errors import NmtrError, UsageError
from nmtr.training.folder import CONFIG, WEIGHTS, open_history, open_report
from nmtr.training.settings import Settings, read_settings

Point = tuple[str, int, float]  # name, epoch, value


def points(run: Path) -> Iterator[Point]:
    """Each figure of each epoch, as selection/ndcg@100."""
    for line in open_history(run):
        for name, value in line.items():
            if name not in ("phase", "epoch") and isinstance(value, int | float):
                yield f"{line['phase']}/{name}", int(line["epoch"]), float(value)


def figures(run: Path) -> dict[str, float]:
    """The model's means on validation and on every test that was read, as time/new/hr@10."""
    settings, _ = _settings(run)
    found = {}
    for file in sorted(run.glob("report-*.json")):
        name = file.stem.removeprefix("report-")
        report = open_report(run, name) or {}
        for part, metrics in report.get("models", {}).get(settings.model, {}).items():
            for metric, each in metrics.items():
                if isinstance(each, Mapping) and "mean" in each:
                    found[f"{name}/{part}/{metric}"] = float(each["mean"])
    return found


def to_tensorboard(run: Path, folder: Path) -> str:
    """Write the run as event files into a folder; raises NmtrError where it is not installed."""
    settings, _ = _settings(run)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise _missing("tensorboard", error) from error
    with SummaryWriter(str(folder)) as writer:
        for name, epoch, value in points(run):
            writer.add_scalar(name, value, epoch)
        for name, value in figures(run).items():
            writer.add_scalar(f"final/{name}", value, 0)
        rows = "\n".join(f"| {name} | {value} |" for name, value in _flat(settings).items())
        writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")
    return str(folder)


def to_mlflow(run: Path, uri: str | None, experiment: str = "nmtr") -> str:
    """Log the run to an MLflow server or folder, its small files too; returns MLflow's run id.

    uri: the tracking URI; None leaves MLflow's own choice (MLFLOW_TRACKING_URI). Raises NmtrError
    where MLflow is not installed.
    """
    settings, about = _settings(run)
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
    except ModuleNotFoundError as error:
        raise _missing("mlflow", error) from error
    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)
    made = client.create_run(place, run_name=run.resolve().name).info.run_id
    metrics = [Metric(_plain(name), value, 0, epoch) for name, epoch, value in points(run)]
    metrics += [Metric(_plain(name), value, 0, 0) for name, value in figures(run).items()]
    params = [Param(name, str(value)) for name, value in _flat(settings).items()]
    tags = [RunTag(f"nmtr.{name}", str(value)) for name, value in about.items()]
    client.log_batch(made, params=params, tags=tags)
    for start in range(0, len(metrics), 1000):  # what MLflow takes at once
        client.log_batch(made, metrics=metrics[start : start + 1000])
    for file in [*sorted(run.glob("*.json")), run / CONFIG]:
        client.log_artifact(made, str(file))
    client.set_terminated(made)
    return str(made)


def _settings(run: Path) -> tuple[Settings, dict[str, Any]]:
    if not (run / CONFIG).exists() or not (run / WEIGHTS).exists():
        raise UsageError(f"{run} is no finished run; make one with `nmtr train DATA --out {run}`")
    return read_settings(run / CONFIG)


def _flat(settings: Settings) -> dict[str, Any]:
    whole = asdict(settings)
    return {**whole, **whole.pop("training"), **whole.pop("options")}


def _plain(name: str) -> str:
    """MLflow's names have no @."""
    return name.replace("@", "_at_")


def _missing(extra: str, error: ModuleNotFoundError) -> NmtrError:
    return NmtrError(f"{extra} needs {error.name}; install it with `pip install 'nmtr[{extra}]'`")
