"""Where a command does its work: here, or on Ray where that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmtr.cli import run as nmtr
from nmtr.cli.engine import ray_workers
from nmtr.data.interactions import Interactions


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


def test_workers_are_for_ray(timed: Interactions, capsys: pytest.CaptureFixture[str]) -> None:
    assert nmtr(["train", str(timed.path), "--out", "nowhere", "--workers", "2"]) == 2
    assert "--workers is for --engine ray" in capsys.readouterr().err
    assert ray_workers("here", None) == 0
