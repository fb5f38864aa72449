"""Replay: what the user already did one step lower, then popularity. The memory to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nmtr.data.records import Histories
from nmtr.models.popularity import Popularity


@dataclass(frozen=True)
class Config:
    """Replay has no settings."""


class Replay(Popularity):
    """Items under the behaviour just below come first, each group in order of popularity."""

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = self.counts.repeat(len(histories), 1, 1)
        for r in range(1, self.shape.n_behaviors):
            below = histories.items[r - 1]
            rows = torch.from_numpy(below.row_of_each())
            columns = torch.from_numpy(below.indices.astype(np.int64))
            scores[rows, r, columns] += self.shape.n_users + 1  # above any count
        return scores if items is None else scores[:, :, items]


MODEL = Replay
