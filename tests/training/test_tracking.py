"""A run's epochs and figures arrive in TensorBoard and MLflow as they stand in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmtr.errors import UsageError
from nmtr.training.run import Run
from nmtr.training.tracking import points, to_mlflow, to_tensorboard


def losses(run: Run) -> list[float]:
    """The selection's losses, from the folder's own file."""
    assert run.path
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    return [each["loss"] for each in lines if each["phase"] == "selection"]


def test_every_epoch_is_a_point(finished: Run) -> None:
    assert finished.path
    found = [value for name, _, value in points(finished.path) if name == "selection/loss"]
    assert found == losses(finished)


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written(finished: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs nmtr[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert finished.path
    to_tensorboard(finished.path, tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = events.Scalars("selection/loss")
    assert [each.step for each in found] == [1, 2, 3]
    assert [each.value for each in found] == pytest.approx(losses(finished), rel=1e-6)
    assert "final/validation/all/ndcg@100" in events.Tags()["scalars"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_settings_and_epochs(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="needs nmtr[mlflow]")
    assert finished.path
    made = to_mlflow(finished.path, (tmp_path / "mlruns").as_uri())
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    assert client.get_run(made).data.params["embedding"] == "8"
    found = client.get_metric_history(made, "selection/loss")
    assert [each.value for each in found] == losses(finished)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run"):
        to_tensorboard(tmp_path, tmp_path / "logs")
