"""Popularity: the items that most users have a target record of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nmtr.data.records import Histories, Records
from nmtr.models.base import Model, Shape


@dataclass(frozen=True)
class Config:
    """Popularity has no settings."""


class Popularity(Model):
    """Scores an item by how many users have a record of it, per behaviour; alike for all users."""

    reads = True

    def __init__(self, config: object, shape: Shape) -> None:
        super().__init__(config, shape)
        self.counts: Tensor
        self.register_buffer("counts", torch.zeros(shape.n_behaviors, shape.n_items))

    def learn(self, records: Records) -> None:
        for r, each in enumerate(records.sets):
            self.counts[r] = torch.from_numpy(each.column_counts())

    def encode(self, histories: Histories) -> Tensor:
        self.check_histories(histories)
        return torch.zeros(len(histories), 0, device=self.counts.device)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        counts = self.counts if items is None else self.counts[:, items]
        return counts.expand(len(histories), *counts.shape)


MODEL = Popularity
