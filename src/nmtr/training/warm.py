"""Warm starts: what a model learned of users and items goes to one with more of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.interactions import Interactions
from nmtr.data.vocabulary import Vocabulary
from nmtr.evaluation.calibration import Calibration
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.settings import Settings

Axis = Literal["user", "item"] | None
SMALL, MORE = (31, 41), (32, 43)  # users and items: one more and two more tell the axes apart


@dataclass(frozen=True)
class Learned:
    """A trained model: its tensors, whose they are, and the calibration if it has one."""

    settings: Settings
    behaviors: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    users: Vocabulary
    items: Vocabulary
    calibration: Calibration | None = None

    def give(self, model: Model, data: Interactions) -> None:
        """Put what was learned into a new model of the same form, by the ids.

        The rest stays as it was drawn.
        """
        found = {
            "user": _both(self.users.indices(data.users.ids)),
            "item": _both(self.items.indices(data.items.ids)),
        }
        of = axes(self.settings, self.behaviors)
        for name, tensor in model.state_dict().items():
            pairs = [
                found[axis] if axis else (np.arange(size), np.arange(size))
                for axis, size in zip(of[name], tensor.shape, strict=True)
            ]
            if not pairs:
                tensor.copy_(self.tensors[name])
                continue
            new, old = zip(*pairs, strict=True)
            tensor.numpy()[np.ix_(*new)] = self.tensors[name].numpy()[np.ix_(*old)]


def axes(settings: Settings, behaviors: tuple[str, ...]) -> dict[str, tuple[Axis, ...]]:
    """Which axes of a model's tensors count users, and which items."""
    with torch.random.fork_rng(devices=[]):
        small, more = (
            make(settings.model, settings.options, Shape(*sizes, behaviors)).state_dict()
            for sizes in (SMALL, MORE)
        )
    kinds: dict[int, Axis] = {1: "user", 2: "item"}
    return {
        name: tuple(kinds.get(b - a) for a, b in zip(each.shape, more[name].shape, strict=True))
        for name, each in small.items()
    }


def _both(old: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places in the new table and in the old one, of those that are in both."""
    new = np.flatnonzero(old >= 0)
    return new, old[new]
