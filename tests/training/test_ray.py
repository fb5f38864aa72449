"""Ray trains, scores and tunes; a worker that is killed costs time and nothing else."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.serving.batch import Question, part_file, parts_of, write
from nmtr.serving.recommender import Recommender
from nmtr.training.run import Run, Settings, open_run
from nmtr.training.weights import read_tensors

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'nmtr[ray]'")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()


def workers() -> set[int]:
    """The processes that Ray Train works in."""
    found = set()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if each.read_bytes().startswith(b"ray::RayTrainWorker"):
                found.add(int(each.parent.name))
        except OSError:
            continue
    return found


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_killed_worker_costs_nothing_but_time(timed: Interactions, tmp_path: Path) -> None:
    from nmtr.training import ray_engine

    assert timed.path
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    told = ["threads=1", "batch_size=500", "epochs=3", "calibrate=false", "embedding=8"]
    words = ["--model", "nmtr-gmf", "--engine", "ray", "--workers", "2"]
    words += [f"--set={each}" for each in told]
    assert nmtr(["train", str(timed.path), "--out", str(whole), *words]) == 0
    settings = open_run(whole).settings
    died: list[int] = []
    came_after: set[int] = set()

    def kill() -> None:
        while not any((tmp_path / ".killed.ray").glob("run/checkpoint_*")):
            time.sleep(0.02)
        at_work = workers()
        died.append(max(at_work))
        os.kill(died[0], signal.SIGKILL)
        while not came_after:
            came_after.update(workers() - at_work)
            time.sleep(0.05)

    threading.Thread(target=kill, daemon=True).start()
    ray_engine.train(timed.path, settings, killed, workers=2, checkpoint_seconds=0.0)
    assert died
    assert came_after
    ours, theirs = (read_tensors(each / "model.safetensors")[0] for each in (whole, killed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert losses(whole) == losses(killed)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["killed", "whole"]


def test_actors_write_what_one_process_would_after_the_parts_that_are_there(
    finished: Run, tmp_path: Path
) -> None:
    here, out = tmp_path / "here.parquet", tmp_path / "ray.parquet"
    served = Recommender.of(finished)
    write(served, served.users, here, Question(5))
    words = ["--all", "-k", "5", "--out", str(out), "--engine", "ray"]
    assert nmtr(["recommend", str(finished.path), *words]) == 0
    assert_frame_equal(pl.read_parquet(here), pl.read_parquet(out))
    assert not parts_of(out).exists()
    assert part_file(parts_of(out), 3).name == "000003.parquet"


def test_ray_makes_the_trials_of_a_study(timed: Interactions, tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = ["--trials", "3", "--no-widen", "--engine", "ray", "--workers", "2"]
    words += [f"--set={each}" for each in ("epochs=2", "threads=1", "embedding=4")]
    assert nmtr(["tune", str(timed.path), "--out", str(out), *words]) == 0
    study = json.loads((out / "study.json").read_text())
    assert study["spent"]["trials"] == study["spent"]["outcomes"]["complete"] == 3
    trials = pl.read_csv(out / "trials.csv")
    assert trials["batch_size"].n_unique() == 3
    best = trials.filter(pl.col("trial") == study["best"]["trial"])
    assert study["best"]["value"] == pytest.approx(trials["ndcg@100"].max(), abs=1e-5)
    assert best["epochs"].to_list() == [2]


@pytest.mark.parametrize("model", ["popularity", "bpr", "mc-gmf", "lightgcn"])
def test_what_cannot_be_divided_is_refused_before_ray_starts(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path, model: str
) -> None:
    from nmtr.training import ray_engine

    assert timed.path
    with pytest.raises(UsageError, match="train it without --engine ray"):
        ray_engine.train(timed.path, small(model), tmp_path / "run", workers=2)
    assert not list(tmp_path.iterdir())


def test_more_workers_than_cpus_are_refused(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path
) -> None:
    from nmtr.training import ray_engine

    assert timed.path
    with pytest.raises(UsageError, match="--workers 9: the Ray cluster has 2 CPUs"):
        ray_engine.train(timed.path, small(), tmp_path / "run", workers=9)
