"""Where a command does its work: here, or on Ray where that is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nmtr.cli import run as nmtr
from nmtr.cli.engine import ray_workers
from nmtr.data.interactions import Interactions
from nmtr.training.run import Settings, execute


@pytest.mark.parametrize("command", ["train", "tune"])
def test_without_ray_the_engine_says_what_to_install(
    timed: Interactions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = [command, str(timed.path), "--out", str(tmp_path / "out"), "--engine", "ray"]
    assert nmtr(words) == 2
    assert "pip install 'nmtr[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_ray_trained_is_told_and_logged_as_any(
    timed: Interactions,
    small: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ray itself is left out: what comes after it is looked at."""

    def train(data: Path, settings: Settings, out: Path, *, workers: int) -> int:
        return execute(timed, small(epochs=workers, patience=workers), out).epochs

    logged = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("nmtr.training.ray_engine.train", train)
    monkeypatch.setattr("nmtr.training.tracking.to_mlflow", lambda *about: logged.append(about))
    out = tmp_path / "run"
    words = ["train", str(timed.path), "--out", str(out), "--model", "nmtr-gmf", "--log", "mlflow"]
    assert nmtr([*words, "--engine", "ray", "--workers", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["model"], told["training"]["epochs"]) == (str(out), "nmtr-gmf", 2)
    assert logged == [(out, None)]


def test_workers_are_for_ray(timed: Interactions, capsys: pytest.CaptureFixture[str]) -> None:
    assert nmtr(["train", str(timed.path), "--out", "nowhere", "--workers", "2"]) == 2
    assert "--workers is for --engine ray" in capsys.readouterr().err
    assert ray_workers("here", None) == 0
