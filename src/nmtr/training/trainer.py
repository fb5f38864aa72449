"""The training loop: epochs of batches, early stopping, checkpoints that survive a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from nmtr.data.records import Records
from nmtr.errors import DataError, NmtrError, UsageError
from nmtr.models.base import Model, Sweep
from nmtr.models.kernels.threads import ahead
from nmtr.training.checkpoint import Progress, restore, save, share_progress
from nmtr.training.distributed import Group
from nmtr.training.levels import LevelSampler
from nmtr.training.optim import Optimizer, make_optimizer
from nmtr.training.sampler import Batches, NegativeRule, Sampler
from nmtr.training.shards import Feed, ShardSampler
from nmtr.training.step import Report, Step
from nmtr.training.whole import UserSampler
from nmtr.training.windows import LARGE, WindowSampler


class DivergedError(NmtrError):
    """The loss or the weights have left what numbers can hold."""


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
    followed_by: int = 0,
    feed: Feed | None = None,
) -> Progress:
    """Train in place for `epochs`, or with `measure` until it stops improving (then keep the best).

    With `checkpoint`, takes up where a killed run of the same phase stopped, and ends with the
    weights that it would have had. In a process group each process trains on its part of every
    batch, or with `feed` on its own users' records; the first alone measures and keeps checkpoints.
    followed_by: as `report` is told it (Step). Raises NmtrError with advice when training diverges,
    DataError where there is nothing to learn from.
    """
    group = Group.current()
    model.learn(records)
    own = feed.records(phase) if feed else None
    work = _work(model, records.only(model.learns), config, group, own)
    if not work.steps:
        raise DataError(f"{phase}: no record is left to train on; the log is too small to hold out")
    state = Progress(phase)
    if checkpoint and checkpoint.exists():
        state = restore(checkpoint, phase, model, work.optimizer) or state
    state = share_progress(group, state, model, work.optimizer)
    saved = time.monotonic()

    def tell(step: int, loss: float) -> None:
        assert report
        epoch, decided = state.epochs_done + 1, measure is None
        report(Step(phase, epoch, step, work.steps, loss, epochs, decided, followed_by))

    while state.epochs_done < epochs and not (measure and _spent(state, config, model)):
        began = time.monotonic()
        loss = _epoch(model, work, state, tell if report else None)
        line = {
            "phase": phase,
            "epoch": state.epochs_done,
            "loss": loss,
            "seconds": time.monotonic() - began,
        }
        if measure:
            values = group.decide(lambda: measure(model))
            line |= values
            if values[config.select] > state.best_value and state.epochs_done > model.warm_up:
                state.best_value, state.best_epoch = values[config.select], state.epochs_done
                state.best = {name: each.clone() for name, each in model.state_dict().items()}
        state.history.append(line)
        due = time.monotonic() - saved >= checkpoint_seconds
        if group.decide(lambda due=due: due):  # type: ignore[misc]
            if checkpoint:
                save(checkpoint, state, model, work.optimizer)
            if feed:
                feed.keep()
            saved = time.monotonic()
    if measure:
        model.load_state_dict(state.best)
    return state


def _spent(state: Progress, config: Training, model: Model) -> bool:
    return state.epochs_done - max(state.best_epoch, model.warm_up) >= config.patience


def _epoch(
    model: Model, work: Work, state: Progress, tell: Callable[[int, float], None] | None
) -> float:
    """One epoch; returns the mean loss of its steps. tell: of each step, its loss so far."""
    model.train()
    model.begin(state.epochs_done)
    total, step = 0.0, 0
    for step, loss in enumerate(work.losses(state.epochs_done), 1):
        total += loss
        if not math.isfinite(loss):
            raise _diverged(f"the loss became {loss}", state, step, work)
        if tell:
            tell(step, total / step)
    if not all(bool(each.isfinite().all()) for each in model.parameters()):
        raise _diverged("a weight is no number", state, step, work)
    if isinstance(work, Steps):
        work.group.check_alike(model)
    state.epochs_done += 1
    return total / work.steps


def _diverged(what: str, state: Progress, step: int, work: Work) -> DivergedError:
    return DivergedError(
        f"{what} in {state.phase}, epoch {state.epochs_done + 1}, step {step} of {work.steps}: "
        f"training diverged. Try a lower learning_rate (it is {work.optimizer.rate}), adagrad, or "
        "some l2"
    )


def _work(
    model: Model, records: Records, config: Training, group: Group, own: Records | None
) -> Work:
    """What the model's epochs are made of; own: the records of this process's users, if divided."""
    rate = config.learning_rate
    if group.world > 1 and (model.sweeps or not model.divides):
        raise UsageError(
            f"this model's epochs cannot be divided among {group.world} processes; train it in one"
        )
    if model.sweeps:
        steps = int(any(each.nnz for each in records.sets))
        sweep = model.sweep(records, rate=rate, negatives=_counts(model, config)[-1])
        optimizer = make_optimizer("sgd", model.named_parameters(), rate=rate)
        return Sweeps(optimizer, sweep, config.seed, steps)
    device = config.torch_device()
    model.to(device)
    named, shares = model.named_parameters(), model.rate_shares()
    optimizer = make_optimizer(config.optimizer, named, rate=rate, shares=shares)
    drawn = batches(model, records if own is None else own.only(model.learns), config)
    if own is not None:
        drawn = ShardSampler.of(drawn, group)
    return Steps(optimizer, model, drawn, device, group)


def batches(model: Model, records: Records, config: Training) -> Batches:
    """What draws the batches of a model from the records of the behaviours that it learns."""
    size, seed = config.batch_size, config.seed
    if model.whole:
        return UserSampler.from_records(records, batch_size=size, seed=seed)
    counts = _counts(model, config)
    if model.levels:
        return LevelSampler.from_records(
            records, model.levels, negatives=counts[-1], batch_size=size, seed=seed
        )
    large = sum(each.nnz for each in records.sets) > LARGE
    kind: type[Sampler] | type[WindowSampler] = WindowSampler if large else Sampler
    return kind.from_records(
        records, negatives=counts, rule=config.negative_rule, batch_size=size, seed=seed
    )


def _counts(model: Model, config: Training) -> tuple[int, ...]:
    """Negatives per positive: one count, or one for each behaviour that the model learns."""
    counts, behaviors = config.negatives, model.shape.behaviors
    if len(counts) == len(behaviors):
        counts = tuple(counts[behaviors.index(each)] for each in model.learns)
    if max(counts) < 1:
        raise UsageError(
            f"negatives: expected at least 1 for {', '.join(model.learns)}, which the model "
            f"learns, got {counts}"
        )
    return counts


@dataclass(frozen=True)
class Steps:
    """Epochs of batches, a step of the optimiser each, made alike by every process of the group."""

    optimizer: Optimizer
    model: Model
    sampler: Batches
    device: torch.device
    group: Group

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def losses(self, epoch: int) -> Iterator[float]:
        """The loss of each batch, as it was before its step."""
        group = self.group
        whole = self.optimizer.whole_step(self.model) if group.world == 1 else None
        drawn = self.sampler.epoch(epoch, rank=group.rank, world=group.world)
        for batch in ahead(drawn) if torch.get_num_threads() > 1 else drawn:
            if whole:
                yield whole(batch)
                continue
            share = group.share(len(batch))
            loss = self.model.loss(batch.to(self.device)) * share
            loss.backward()  # type: ignore[no-untyped-call]
            yield group.merge(self.optimizer.parameters, loss.item())
            self.optimizer.step()


@dataclass(frozen=True)
class Sweeps:
    """Epochs of the model's own, on a CPU: one step each, decided by seed and epoch.

    The optimiser holds nothing; it says the rate.
    """

    optimizer: Optimizer
    sweep: Sweep
    seed: int
    steps: int

    def losses(self, epoch: int) -> Iterator[float]:
        """The mean loss of the one sweep."""
        entropy = np.random.SeedSequence((self.seed, epoch))
        yield self.sweep(int(entropy.generate_state(1, np.uint64)[0]))


Work = Steps | Sweeps
