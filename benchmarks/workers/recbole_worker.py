"""Measures RecBole: loading, training by its own trainer, its full evaluation, its top k."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_topk
from worker import Spec, Window, main, repeat

CUTOFFS = [10, 50, 100, 200]
EVALUATED = 1000  # users, unless the spec says how many


@dataclass(frozen=True)
class Subject:
    """Its data loaders and trainer; seconds: of what it does to load from its own file format."""

    train: Any
    valid: Any
    trainer: Any
    seconds: float


def load(spec: Spec) -> Subject:
    """Write its atomic files (not counted as loading), then let it load them."""
    torch.set_num_threads(spec.threads)
    folder = Path(tempfile.mkdtemp(prefix="recbole-"))
    os.chdir(folder)  # it logs where it stands
    items = write(spec, folder / "log")
    began = time.perf_counter()
    config = Config(model=spec.model, dataset="log", config_dict=settings(spec, folder, items))
    init_seed(0, reproducibility=True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    seconds = time.perf_counter() - began
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    return Subject(train, valid, trainer, seconds)


def write(spec: Spec, folder: Path) -> int:
    """The log as RecBole reads it, with the held-out items of as many users as are ranked."""
    folder.mkdir()
    found = np.load(spec.data)
    users = np.arange(len(found["held_users"]))
    held = users[:: max(1, len(users) // (spec.users or EVALUATED))]
    pairs = {
        "train": (found["users"], found["items"]),
        "valid": (found["held_users"][held], found["held_items"][held]),
        "test": (found["held_users"][held[:1]], found["held_items"][held[:1]]),
    }
    for name, (user, item) in pairs.items():
        table = np.stack([user, item], 1)
        head = "user_id:token\titem_id:token"
        np.savetxt(folder / f"log.{name}.inter", table, "%d", "\t", header=head, comments="")
    return int(found["n_items"])


def settings(spec: Spec, folder: Path, items: int) -> dict[str, Any]:
    """FACTS' settings unless the spec says others; batch counts users scored at once."""
    found = {
        "data_path": str(folder),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "metrics": ["Hit", "NDCG"],
        "topk": CUTOFFS,
        "valid_metric": "NDCG@100",
        "learner": "adam",
        "learning_rate": 1e-3,
        "show_progress": False,
        "use_gpu": spec.device != "cpu",
        "state": "ERROR",
        "checkpoint_dir": str(folder),
        **spec.options,
        **spec.training,
    }
    if spec.batch:
        found["eval_batch_size"] = spec.batch * (items + 1)  # one row is its padding
    return found


class Boxed:
    """A data loader that ends when a window is over, and is a data loader in all else."""

    def __init__(self, loader: Any, window: Window, epoch: int) -> None:
        self.loader, self.window, self.epoch = loader, window, epoch
        self.over = False

    def __iter__(self) -> Iterator[Any]:
        steps = len(self.loader)
        for number, batch in enumerate(self.loader):
            yield batch
            if self.window.step(self.epoch, number + 1, steps):
                self.over = True
                return

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def trains(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Positives and samples a second, of its own `_train_epoch`."""
    window, epoch, over = Window(spec.seconds, spec.box), 0, False
    while not over:
        epoch += 1
        boxed = Boxed(subject.train, window, epoch)
        subject.trainer._train_epoch(boxed, epoch)
        over = boxed.over
    seconds = window.seconds_per_epoch
    positives = len(subject.train.dataset)
    return {
        "samples_per_second": positives * spec.samples_per_positive / seconds,
        "positives_per_second": positives / seconds,
        "seconds_per_epoch": seconds,
        "setup_seconds": window.setup,
    }


def places(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Users a second of its full-ranking evaluation."""
    users = len(subject.valid.uid_list)

    def evaluate() -> None:
        subject.trainer.evaluate(subject.valid, load_best_model=False)

    return {"ranked_per_second": users / repeat(evaluate, seconds=spec.seconds)}


def tops(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Users a second of its best k, history masked, a batch of users at a time."""
    users, model = subject.valid.uid_list, subject.trainer.model
    parts = users.numpy()[: spec.users or EVALUATED]
    step = spec.batch or 1

    def rank() -> None:
        for start in range(0, len(parts), step):
            chosen = parts[start : start + step]
            full_sort_topk(chosen, model, subject.valid, spec.k, spec.device)

    return {"users_per_second": len(parts) / repeat(rank, seconds=spec.seconds)}


def loads(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Without the writing of its files and the building of a model."""
    return {"load_seconds": subject.seconds}


if __name__ == "__main__":
    main(load, {"load": loads, "train": trains, "rank": places, "top": tops})
