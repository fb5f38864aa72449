"""The training loop: epochs of batches, early stopping, checkpoints that survive a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nmtr.data.records import Records
from nmtr.errors import DamagedError, DataError, NmtrError
from nmtr.models.base import Model
from nmtr.training.optim import Optimizer, make_optimizer
from nmtr.training.sampler import NegativeRule, Sampler
from nmtr.training.weights import read_tensors, write_tensors

Measure = Callable[[Model], Mapping[str, float]]


@dataclass(frozen=True)
class Training:
    """How to train, whatever the model.

    negatives: per positive, one count for all behaviours or one each; batch_size: recorded pairs a
    step, each with its negatives; patience: epochs without a better `select` on validation before
    it stops; select: the metric that chooses the epoch, or `none` to run `epochs` exactly;
    threads: 0 leaves torch's own choice.
    """

    optimizer: str = "adagrad"
    learning_rate: float = 0.05
    batch_size: int = 2048
    negatives: tuple[int, ...] = (4,)
    negative_rule: NegativeRule = "unobserved"
    epochs: int = 30
    patience: int = 3
    select: str = "ndcg@100"
    seed: int = 0
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    calibrate: bool = True

    def __post_init__(self) -> None:
        positive = {
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
        }
        for name, value in positive.items():
            if not 0 < value < 3e38:  # what a float32 holds
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if not self.negatives or min(self.negatives) < 0 or max(self.negatives) < 1:
            raise ValueError(
                f"negatives: expected counts of which one is at least 1, got {self.negatives}"
            )
        if self.negative_rule not in ("unobserved", "unseen"):
            raise ValueError(
                f"negative_rule: expected unobserved or unseen, got {self.negative_rule!r}"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device: expected auto, cpu or cuda, got {self.device!r}")
        if not 0 <= self.seed < 2**63 or self.patience < 1 or not 0 <= self.threads <= 1024:
            raise ValueError(
                "expected 0 <= seed < 2^63, patience >= 1 and 0 <= threads <= 1024, got "
                f"{self.seed}, {self.patience} and {self.threads}"
            )

    def torch_device(self) -> torch.device:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise NmtrError(
                "device: cuda was asked for, and torch finds no CUDA device; use device=auto"
            )
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(automatic if self.device == "auto" else self.device)


@dataclass
class Progress:
    """Where a training stands; `best` is the state of the best epoch so far."""

    phase: str
    epochs_done: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


Report = Callable[[str, int, int, int, float], None]  # phase, epoch, step, steps, loss so far


def train(
    model: Model,
    records: Records,
    config: Training,
    *,
    phase: str,
    epochs: int,
    measure: Measure | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 10.0,
    report: Report | None = None,
) -> Progress:
    """Train in place for `epochs`, or with `measure` until it stops improving (then keep the best).

    With `checkpoint`, takes up where a killed run of the same phase stopped, and ends with the
    weights that it would have had. Raises NmtrError with advice when training diverges, DataError
    where there is nothing to learn from.
    """
    sampler = Sampler.from_records(
        records,
        negatives=config.negatives,
        rule=config.negative_rule,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    if not sampler.steps:
        raise DataError(f"{phase}: no record is left to train on; the log is too small to hold out")
    device = config.torch_device()
    model.to(device)
    optimizer = make_optimizer(
        config.optimizer, model.named_parameters(), rate=config.learning_rate
    )
    state = Progress(phase)
    if checkpoint and checkpoint.exists():
        state = restore(checkpoint, phase, model, optimizer) or state
    saved = time.monotonic()
    while state.epochs_done < epochs and not _spent(state, config, measure):
        began = time.monotonic()
        loss = _epoch(model, optimizer, sampler, state, device, report)
        line = {
            "phase": phase,
            "epoch": state.epochs_done,
            "loss": loss,
            "seconds": time.monotonic() - began,
        }
        if measure:
            values = measure(model)
            line |= values
            if values[config.select] > state.best_value:
                state.best_value, state.best_epoch = values[config.select], state.epochs_done
                state.best = {name: each.clone() for name, each in model.state_dict().items()}
        state.history.append(line)
        if checkpoint and time.monotonic() - saved >= checkpoint_seconds:
            save(checkpoint, state, model, optimizer)
            saved = time.monotonic()
    if measure:
        model.load_state_dict(state.best)
    return state


def _spent(state: Progress, config: Training, measure: Measure | None) -> bool:
    return measure is not None and state.epochs_done - state.best_epoch >= config.patience


def _epoch(
    model: Model,
    optimizer: Optimizer,
    sampler: Sampler,
    state: Progress,
    device: torch.device,
    report: Report | None,
) -> float:
    """One pass over the recorded pairs; returns the mean loss of its batches."""
    model.train()
    total = 0.0
    for step, batch in enumerate(sampler.epoch(state.epochs_done)):
        loss = model.loss(batch.to(device))
        total += (value := loss.item())
        if not math.isfinite(value):
            raise _diverged(f"the loss became {value}", state, step, sampler.steps, optimizer.rate)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if report:
            report(state.phase, state.epochs_done + 1, step + 1, sampler.steps, total / (step + 1))
    if not all(bool(each.isfinite().all()) for each in model.parameters()):
        raise _diverged("a weight is no number", state, step, sampler.steps, optimizer.rate)
    state.epochs_done += 1
    return total / sampler.steps


def _diverged(what: str, state: Progress, step: int, steps: int, rate: float) -> NmtrError:
    return NmtrError(
        f"{what} in {state.phase}, epoch {state.epochs_done + 1}, step {step + 1} of {steps}: "
        f"training diverged. Try a lower learning_rate (it is {rate}), adagrad, or some l2"
    )


def save(path: Path, state: Progress, model: Model, optimizer: Optimizer) -> None:
    """Write everything that a resumed run needs, whole or not at all."""
    tensors = {f"model.{name}": each for name, each in model.state_dict().items()}
    tensors |= {f"best.{name}": each for name, each in state.best.items()}
    tensors |= {f"optimizer.{name}": each for name, each in optimizer.state.items()}
    tensors["rng"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    about = {
        "phase": state.phase,
        "epochs_done": state.epochs_done,
        "best_epoch": state.best_epoch,
        "best_value": state.best_value if state.best else None,
        "history": state.history,
        "steps": optimizer.steps,
    }
    write_tensors(path, tensors, about)


def restore(path: Path, phase: str, model: Model, optimizer: Optimizer) -> Progress | None:
    """Take up a checkpoint of this phase; None if it is of another. Raises DamagedError."""
    try:
        tensors, about = read_tensors(path)
        if about["phase"] != phase:
            return None
        model.load_state_dict(_part(tensors, "model."))
        optimizer.load(_part(tensors, "optimizer."), steps=about["steps"])
        torch.set_rng_state(tensors["rng"])
        if torch.cuda.is_available() and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"])
        value = -math.inf if about["best_value"] is None else about["best_value"]
        done, best, history = about["epochs_done"], about["best_epoch"], about["history"]
    except Exception as error:  # safetensors, json and torch each raise their own kinds
        raise DamagedError(
            f"{path} cannot be read as this run's checkpoint ({error}); delete it to start over"
        ) from error
    return Progress(phase, done, best, value, _part(tensors, "best."), history)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }
