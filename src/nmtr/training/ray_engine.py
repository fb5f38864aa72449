"""A run on Ray: Ray Train holds the workers, Ray Data brings each the records of its own users.

Every worker process trains the one model on its users; the first also ranks validation and writes
the run's folder, which is what Ray keeps as its checkpoint. When a worker dies, Ray starts them all
again, and they go on from the last checkpoint to the weights that they would have had.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmtr.data.interactions import load
from nmtr.data.records import Records
from nmtr.errors import NmtrError, UsageError
from nmtr.files import replace_folder
from nmtr.models.base import Shape
from nmtr.training import trainer
from nmtr.training.distributed import PATIENCE, Group, LostError
from nmtr.training.folder import WEIGHTS, check_free
from nmtr.training.run import calibrates, execute, phase_records
from nmtr.training.selection import new_model
from nmtr.training.settings import Settings, resolve
from nmtr.training.shards import COLUMNS, divided, joined_up
from nmtr.training.weights import read_tensors

RESTARTS = 3  # times that workers may die before a run is given up


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """Ray itself, on the cluster that RAY_ADDRESS names or on one of this machine's own.

    Raises UsageError where the cluster has fewer CPUs than workers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # which prints, however quiet it is told to be
    import ray

    ours = not ray.is_initialized()
    if ours:
        here: dict[str, Any] = {"num_cpus": max(workers, os.cpu_count() or 1)}
        here["include_dashboard"] = False
        known = os.environ.get("RAY_ADDRESS")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **({} if known else here))
    try:
        found = int(ray.cluster_resources().get("CPU", 0))
        if found < workers:
            raise UsageError(f"--workers {workers}: the Ray cluster has {found} CPUs")
        yield ray
    finally:
        if ours:
            ray.shutdown()


def train(
    data: Path,
    settings: Settings,
    out: Path,
    *,
    workers: int,
    checkpoint_seconds: float = 10.0,
) -> int:
    """Train by the settings on Ray and leave the run at `out`; returns its epochs.

    data and out must lie where every machine of the cluster sees them. A command that was killed
    goes on where it stopped when it is given again. Raises UsageError before anything starts.
    """
    opened = load(data)
    model = new_model(opened, settings)
    settings = resolve(opened, settings, model)
    if not model.trained or model.sweeps or not model.divides or model.levels:
        raise UsageError(
            f"{settings.model} cannot be trained on divided records; train it without --engine ray"
        )
    check_free(out, "run")
    out = out.resolve()
    told = {
        "data": str(data.resolve()),
        "settings": settings,
        "shape": model.shape,
        "seconds": checkpoint_seconds,
    }
    storage = out.with_name(f".{out.name}.ray")
    with cluster(workers):
        fitted = _fit(told, phase_records(opened, settings), workers, storage)
        if "error" in fitted:
            raise NmtrError(fitted["error"])
        with fitted["folder"].as_directory() as finished, replace_folder(out) as new:
            shutil.copytree(finished, new, dirs_exist_ok=True)
    shutil.rmtree(storage)
    return int(fitted["epochs"])


def _fit(
    told: dict[str, Any], records: Mapping[str, Records], workers: int, storage: Path
) -> dict[str, Any]:
    """Have Ray Train run the workers; what the first one returned, and the folder that it left."""
    import ray
    from ray import data
    from ray import train as ray_train
    from ray.train.torch import TorchConfig, TorchTrainer

    enough = ray.cluster_resources().get("GPU", 0) >= workers
    gpus = enough and told["settings"].training.device != "cpu"
    datasets = {
        f"{phase}-{rank}": data.from_numpy(_matrix(part))
        for phase, each in records.items()
        for rank, part in enumerate(divided(each, workers))
    }
    runner = TorchTrainer(
        work,
        train_loop_config=told,
        torch_config=TorchConfig(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=int(PATIENCE.total_seconds())
        ),
        scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=ray_train.RunConfig(
            name="run",
            storage_path=str(storage),
            failure_config=ray_train.FailureConfig(max_failures=RESTARTS),
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=2),
        ),
        datasets=datasets,
        dataset_config=ray_train.DataConfig(datasets_to_split=[]),  # they are divided by users
    )
    try:
        result = runner.fit()
    except ray_train.TrainingFailedError as error:
        raise NmtrError(_reason(error)) from error
    returned: dict[str, Any] = result.return_value
    return {**returned, "folder": result.checkpoint}


def _reason(error: Exception) -> str:
    """What went wrong first: not that others lost touch with who failed."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
    causes = {rank: getattr(each, "cause", None) or each for rank, each in failures.items()}
    own = {rank: each for rank, each in causes.items() if not isinstance(each, LostError)}
    for rank, each in (own or causes).items():
        return f"worker {rank} of the Ray run failed {RESTARTS + 1} times: {each}"
    return str(error)


def work(told: dict[str, Any]) -> dict[str, Any]:
    """What each worker does, in a process group that Ray Train has made."""
    from ray import train as ray_train

    settings: Settings = told["settings"]
    group = Group.current()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        feed = RayFeed(told["shape"], group, folder)
        if group.first and (kept := ray_train.get_checkpoint()):
            with kept.as_directory() as last:
                shutil.copytree(last, folder)
        if finished := group.decide(lambda: _epochs(folder)):
            return {"epochs": finished[0]}
        try:
            if group.first:
                seconds = told["seconds"]
                data = load(Path(told["data"]))
                run = execute(data, settings, folder, feed=feed, checkpoint_seconds=seconds)
                epochs = run.epochs
            else:
                epochs = follow(told["shape"], settings, feed)
        except trainer.DivergedError as error:  # of all alike, and of every other try
            return {"error": str(error)}
        feed.keep()
    return {"epochs": epochs}


def _epochs(folder: Path) -> list[int]:
    """The epochs of the run in a folder, where it is finished."""
    file = folder / WEIGHTS
    return [int(read_tensors(file)[1]["epochs"])] if file.exists() else []


def follow(shape: Shape, settings: Settings, feed: RayFeed) -> int:
    """Take the part in a run of every process but the first; returns the epochs chosen."""
    training = settings.training
    if training.threads:
        torch.set_num_threads(training.threads)

    def phase(name: str, epochs: int, measure: trainer.Measure | None = None) -> int:
        model = new_model(shape, settings)
        own = feed.records(name)
        done = trainer.train(
            model, own, training, phase=name, epochs=epochs, measure=measure, feed=feed
        )
        return done.best_epoch

    epochs = training.epochs
    if training.select != "none":
        epochs = phase("selection", epochs, lambda model: {})  # the first process measures
    if calibrates(settings, new_model(shape, settings)):
        phase("calibration", epochs)
    phase("refit", epochs)
    return epochs


@dataclass(frozen=True)
class RayFeed:
    """Records by Ray Data; checkpoints by Ray Train, of the first process's folder."""

    shape: Shape
    group: Group
    folder: Path

    def records(self, phase: str) -> Records:
        """The records of this worker's users that a phase trains on."""
        from ray import train as ray_train

        shard = ray_train.get_dataset_shard(f"{phase}-{self.group.rank}")
        blocks = [each["data"] for each in shard.iter_batches(batch_size=None)]
        matrix = np.concatenate(blocks) if blocks else np.zeros((0, len(COLUMNS)), np.int32)
        columns = dict(zip(COLUMNS, matrix.T, strict=True))
        return joined_up(columns, (self.shape.n_users, self.shape.n_items), self.shape.behaviors)

    def keep(self) -> None:
        """Have Ray keep the folder; every process calls this at the same step."""
        from ray import train as ray_train

        kept = ray_train.Checkpoint.from_directory(self.folder) if self.group.first else None
        ray_train.report({}, checkpoint=kept)


def _matrix(columns: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.stack([columns[name] for name in COLUMNS], 1)
