"""ItemKNN: an item's score is the sum of its likenesses to the user's items, of each its nearest k.

Deshpande and Karypis, Item-Based Top-N Recommendation Algorithms, TOIS 2004, with shrinkage. With
x_i (M,) the records of item i,

    s_ji = x_j . x_i / (|x_j| |x_i| + shrink)    where i is among the k nearest to j, else 0
    score_ui = sum_j x_uj s_ji

Several behaviours enter as one matrix X, the weighted sum of theirs, in learning and in scoring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from nmtr.data.records import Histories, Records
from nmtr.data.weighted import average_row, check_weights, weighted_sum, weights_of
from nmtr.models.base import Model, Shape
from nmtr.models.neighbours import BLOCK_CELLS, table_sums
from nmtr.models.space import Range, Space, Weights, Whole


@dataclass(frozen=True)
class Config:
    """ItemKNN's settings.

    k: neighbours kept of each item, those of no likeness included.
    shrink: what makes few common users count less, in records.
    weights: one per behaviour, the target's last; empty for the target alone.
    """

    k: int = 1000
    shrink: float = 10.0
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: expected 1 neighbour or more, got {self.k}")
        if not self.shrink >= 0:  # a NaN is not
            raise ValueError(f"shrink: expected 0 or more, got {self.shrink}")
        check_weights(self.weights)

    def space(self) -> Space:
        return {
            "k": Whole(30, 2000, log=True),
            "shrink": Range(1.0, 1000.0, log=True, least=0.01),
            "weights": Weights(0.01, 3.0, empty=0.0),
        }


class ItemKNN(Model):
    """The k nearest items of each item; every behaviour gets the same score.

    Users are met by their histories alone; one who has none is scored as the average user.
    """

    reads = True
    nearest: Tensor
    likeness: Tensor
    average: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.mix = weights_of(shape.behaviors, config.weights)
        self.k = min(config.k, shape.n_items)
        self.register_buffer("nearest", torch.zeros(shape.n_items, self.k, dtype=torch.int32))
        self.register_buffer("likeness", torch.zeros(shape.n_items, self.k))
        self.register_buffer("average", torch.zeros(shape.n_items))

    def learn(self, records: Records) -> None:
        x = weighted_sum(records.sets, self.mix)
        norm = torch.from_numpy(np.sqrt(x.power(2).sum(0)))
        columns = x.tocsc()
        step = max(1, BLOCK_CELLS // self.shape.n_items)
        for start in range(0, self.shape.n_items, step):
            common = columns[:, start : start + step].T.tocsr() @ x
            block = torch.from_numpy(common.toarray())
            block /= (norm[start : start + step, None] * norm + self.config.shrink).clamp(1e-30)
            block[torch.arange(len(block)), torch.arange(start, start + len(block))] = 0
            near = block.topk(self.k, dim=1)
            self.nearest[start : start + step] = near.indices
            self.likeness[start : start + step] = near.values
        self.average = self._scores(average_row(x))[0]

    def encode(self, histories: Histories) -> Tensor:
        """(B, N) the user's scores."""
        self.check_histories(histories)
        x = weighted_sum(histories.items, self.mix)
        known = torch.from_numpy(np.diff(x.indptr) > 0).to(self.average.device)
        return torch.where(known[:, None], self._scores(x), self.average)

    def _scores(self, x: csr_array) -> Tensor:
        """(rows, N) the sums of likenesses for records x (rows, N)."""
        return table_sums(self.nearest, self.likeness, x, self.shape.n_items)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state if items is None else state[:, items]
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def alike(self, items: Tensor) -> Tensor:
        """(n, N) the likenesses of each item's neighbours, 0 for all others."""
        rows = torch.zeros(len(items), self.shape.n_items, device=items.device)
        return rows.scatter_(1, self.nearest[items].long(), self.likeness[items])


MODEL = ItemKNN
