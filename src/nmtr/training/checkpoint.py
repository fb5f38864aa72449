"""Checkpoints: where a training stands, written so that a kill leaves the old one or the new."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmtr.errors import DamagedError
from nmtr.models.base import Model
from nmtr.training.distributed import Group, divided
from nmtr.training.optim import Optimizer
from nmtr.training.weights import read_tensors, write_tensors


@dataclass
class Progress:
    """Where a training stands; `best` is the state of the best epoch so far."""

    phase: str
    epochs_done: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


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


def share_progress(group: Group, state: Progress, model: Model, optimizer: Optimizer) -> Progress:
    """Give every process the first one's progress, weights, optimiser and random state."""
    if group.world == 1:
        return state
    said = group.decide(lambda: (state, optimizer.steps, torch.get_rng_state()))
    state, optimizer.steps, rng = said
    torch.set_rng_state(rng)
    whole = [each for each in (*model.parameters(), *model.buffers()) if not divided(each)]
    known = {name for name, each in optimizer.parameters.items() if divided(each)}
    slots = [each for name, each in optimizer.state.items() if name.rpartition(".")[0] not in known]
    group.copy_first(iter([*whole, *slots]))
    return state


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }
