"""Ray trains, scores and tunes; a worker that is killed costs time and nothing else."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from nmtr.data.interactions import Interactions
from nmtr.training.run import Settings, open_run
from nmtr.training.weights import read_tensors

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'nmtr[ray]'")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def workers() -> list[int]:
    """The processes that Ray Train works in."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if each.read_bytes().startswith(b"ray::RayTrainWorker"):
                found.append(int(each.parent.name))
        except OSError:
            continue
    return found


def test_a_killed_worker_costs_nothing_but_time(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path
) -> None:
    from nmtr.training import ray_engine

    assert timed.path
    settings = small(epochs=4, threads=1, batch_size=500)
    killed: list[int] = []

    def kill() -> None:
        while not any((tmp_path / ".killed.ray").glob("run/checkpoint_*")):
            time.sleep(0.02)
        killed.append(max(workers()))
        os.kill(killed[0], signal.SIGKILL)

    assassin = threading.Thread(target=kill, daemon=True)
    for name in ("whole", "killed"):
        if name == "killed":
            assassin.start()
        ray_engine.train(timed.path, settings, tmp_path / name, workers=2, checkpoint_seconds=0.0)
    assert killed
    whole, again = (
        read_tensors(tmp_path / each / "model.safetensors") for each in ("whole", "killed")
    )
    assert all(torch.equal(whole[0][name], again[0][name]) for name in whole[0])
    curves = [
        [json.loads(line)["loss"] for line in (tmp_path / each / "metrics.jsonl").open()]
        for each in ("whole", "killed")
    ]
    assert curves[0] == curves[1]
    assert not list(tmp_path.glob(".*"))
    assert open_run(tmp_path / "killed").calibration
