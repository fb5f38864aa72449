"""The command that takes a run elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nmtr.cli.show import emit_json, say


def export(
    run: Path,
    /,
    *,
    onnx: Path | None = None,
    by: Literal["index", "vector"] = "index",
    tensorboard: Path | None = None,
    mlflow: str | None = None,
    experiment: str = "nmtr",
    data: Path | None = None,
    json: bool = False,
) -> None:
    """Write a finished run for other tools: its network as ONNX, its epochs and figures as logs.

    Parameters
    ----------
    run
        a finished run.
    onnx
        the file to write, such as model.onnx; MODEL.users.csv and MODEL.items.csv, beside it, say
        which id has which index. For models of the NMTR family.
    by
        what ONNX is asked by: the users' indices, or their vectors.
    tensorboard
        the folder to write event files into.
    mlflow
        the tracking URI to log to, as http://localhost:5000, or `default`, MLflow's own choice.
    experiment
        the name of MLflow's experiment.
    data
        the prepared data set, if it has moved.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError

    if not (onnx or tensorboard or mlflow):
        raise UsageError("say what to write: --onnx FILE, --tensorboard FOLDER or --mlflow URI")
    written: dict[str, object] = {}
    if onnx:
        from nmtr.serving.onnx_export import export_onnx
        from nmtr.training.run import open_run

        written |= export_onnx(open_run(run, data=data), onnx, by=by)
    if tensorboard or mlflow:
        from nmtr.training.tracking import to_mlflow, to_tensorboard

        if tensorboard:
            written["tensorboard"] = to_tensorboard(run, tensorboard)
        if mlflow:
            uri = None if mlflow == "default" else mlflow
            written["mlflow_run"] = to_mlflow(run, uri, experiment)
    if json:
        emit_json(written)
        return
    if onnx:
        asked = "users (B,)" if by == "index" else "vectors (B, E)"
        say(
            f"{onnx}: {asked} and items (N,) to logits (B, R, N) of {written['behaviors']}; ids "
            f"and indices in {written['users']} and {written['items']}"
        )
    if tensorboard:
        say(f"{tensorboard}: look with tensorboard --logdir {tensorboard}")
    if mlflow:
        say(f"MLflow's run {written['mlflow_run']} in experiment {experiment}")
