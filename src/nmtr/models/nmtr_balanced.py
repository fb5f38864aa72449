"""NMTR whose weights of the behaviours are learned: each by how uncertain the model is about it.

Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
and Semantics, CVPR 2018. With l^r_n the log loss of labelled pair n under behaviour r and s_r
learned, eq. 5 becomes

    L = sum_r sum_n (exp(-s_r) l^r_n + s_r / 2)

so that lambda_r = exp(-s_r) is drawn to 1 / (2 mean of l^r): what is hard to tell weighs less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmtr.models import nmtr
from nmtr.models.base import Batch, Shape
from nmtr.models.space import Space


@dataclass(frozen=True)
class Config(nmtr.Config):
    """NMTR's settings, less lambdas."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lambdas:
            raise ValueError(f"lambdas: they are learned; expected none, got {self.lambdas}")

    def space(self) -> Space:
        return {name: each for name, each in super().space().items() if name != "lambdas"}


class BalancedNMTR(nmtr.NMTR):
    """The cascade with a weight for each behaviour that follows its loss. spread: (R,) s_r."""

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.spread = nn.Parameter(torch.zeros(shape.n_behaviors))
        self.register_buffer("lambdas", torch.ones(shape.n_behaviors))  # kept, for fold-in

    def loss(self, batch: Batch) -> Tensor:
        self.check_batch(batch)
        lambdas = self.spread.neg().exp()
        self.lambdas.copy_(lambdas.detach())
        labelled = batch.weight.sum(0) / max(len(batch), 1)
        return self.plain_loss(batch, lambdas) + labelled @ self.spread / 2


MODEL = BalancedNMTR
