"""Target records held out inside training, and the softmax of each among what stands against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nmtr.data.records import Records


@dataclass
class Cases:
    """Held-out pairs of B users, the first B of n, and the pairs that stand against them.

    x: (n, inputs); row: (n,) the user; extra: (n,) the logarithm of how many a pair stands for;
    observed: for each auxiliary behaviour, which pairs have it.
    """

    x: Tensor
    row: Tensor
    extra: Tensor
    observed: list[Tensor]
    size: int

    def loss(self, units: nn.ModuleList) -> Tensor:
        """Mean of -log softmax of the held-out pairs."""
        scores = units[0](self.x)
        for unit, at in zip(units[1:], self.observed, strict=True):
            scores = scores.index_add(0, at, unit(self.x[at]))
        own = scores[: self.size]
        scores = scores + self.extra
        top = torch.full((self.size,), -torch.inf)
        top = top.scatter_reduce(0, self.row, scores.detach(), "amax")
        total = torch.zeros(self.size).index_add(0, self.row, (scores - top[self.row]).exp())
        return (total.log() + top - own).mean()


def hold_out(
    records: Records, hide: float, rng: np.random.Generator
) -> tuple[Records, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Records less a target pair of each user who has two, and of some its lower records too."""
    target = records.target
    order = rng.permutation(target.nnz)
    users = target.row_of_each()
    first = order[np.unique(users[order], return_index=True)[1]]
    first = first[target.lengths()[users[first]] >= 2]
    held, items = users[first], target.indices[first].astype(np.int64)
    hidden = rng.random(len(held)) < hide
    sets = [each.without(held[hidden], items[hidden]) for each in records.sets[:-1]]
    return Records(records.behaviors, (*sets, target.without(held, items))), held, items
