"""MR-BPR: one factorisation for all behaviours, each a relation with a BPR loss of its own.

Krohn-Grimberghe, Drumond, Freudenthaler and Schmidt-Thieme, Multi-Relational Matrix Factorization
using Bayesian Personalized Ranking for Social Network Data, WSDM 2012. Entities that stand in
several relations have one vector; here each relation is a behaviour between users and items:

    x^r_ui = p_u . q_i + b^r_i
    L = sum_r alpha_r mean over (u, i, j) of log(1 + exp(x^r_uj - x^r_ui)) + L2 as BPR's,
        i an item that u has a record of under r, j drawn from the others

Only the items' biases tell relations apart. Their algorithm draws as many triples for each
relation; here an epoch visits each pair of relation r with a chance in proportion to
alpha_r / |D_r|, the likeliest relation whole. Relations take turns, a few users at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from nmtr.data.records import Histories, Records
from nmtr.models import bpr
from nmtr.models.base import Shape
from nmtr.models.kernels import Ints
from nmtr.models.kernels.bpr import bpr_users
from nmtr.models.levels import LevelPairs
from nmtr.models.space import Space, Weights

TURN = 64  # users whose pairs of one relation are visited before those of the next


@dataclass(frozen=True)
class Config(bpr.Config):
    """BPR's settings, and alpha: one weight per behaviour, lowest first; empty for equal ones."""

    alpha: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha and not (min(self.alpha) >= 0 and 0 < sum(self.alpha) < np.inf):
            raise ValueError(
                f"alpha: expected non-negative weights with a positive sum, got {self.alpha}"
            )

    def space(self) -> Space:
        return {**super().space(), "alpha": Weights(0.05, 5.0, empty=1.0)}


class MRBPR(bpr.BPR):
    """BPR over several relations at once."""

    config: Config

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        if config.alpha and len(config.alpha) != shape.n_behaviors:
            raise ValueError(
                f"alpha: expected {shape.n_behaviors} weights, one for each of "
                f"{', '.join(shape.behaviors)}, got {len(config.alpha)}"
            )
        self.alpha = np.array(config.alpha or [1.0] * shape.n_behaviors)
        self.learns = shape.behaviors
        self.bias = nn.Parameter(torch.zeros(shape.n_behaviors, shape.n_items))

    def visits(self, records: Records, rate: np.float32, negatives: int) -> bpr.Visit:
        shares = self.shares(records)
        relations = []
        for each, keep in zip(records.behaviors, shares, strict=True):
            pairs = LevelPairs.from_records(records.only([each]), bpr.ONE_LEVEL)
            relations.append(replace(pairs, keep=np.array([keep])).drawn())
        p, q, bias = self.learned()
        how = rate, np.float32(self.config.l2)

        def visit(users: Ints, chance: np.uint64) -> tuple[float, int]:
            starts = range(0, len(users), TURN)
            seeds = np.random.default_rng(int(chance)).integers(
                2**63, size=(len(starts), len(relations)), dtype=np.uint64
            )
            loss, steps = 0.0, 0
            for start, row in zip(starts, seeds, strict=True):
                some = users[start : start + TURN]
                for r, drawn in enumerate(relations):
                    found = bpr_users(some, *drawn, negatives, p, q, bias[r], *how, row[r])
                    loss, steps = loss + found[0], steps + found[1]
            return loss, steps

        return visit

    def shares(self, records: Records) -> np.ndarray:
        """(R,) the chance of each relation's pairs to be visited in an epoch."""
        sizes = np.array([max(each.nnz, 1) for each in records.sets])
        odds = self.alpha / sizes
        found: np.ndarray = odds / odds.max()
        return found

    def folding(self, negatives: tuple[int, ...]) -> None:
        """None: what a user's pairs weigh depends on how many of a relation all users have."""

    def logits_of(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        q, bias = self.item[items], self.bias[:, items]
        return lambda p: q @ p + bias

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        q = self.item if items is None else self.item[items]
        bias = self.bias if items is None else self.bias[:, items]
        return (state @ q.T)[:, None] + bias


MODEL = MRBPR
