"""FISM: an item's likeness to the user's items, factored; the item itself left out.

Kabbur, Ning and Karypis, FISM: Factored Item Similarity Models for Top-N Recommender Systems, KDD
2013, in its pairwise form, FISMauc. With x_uj the weight of a recorded pair,

    score_ui = b_i + (sum_(j != i) x_uj)^-power sum_(j != i) x_uj p_j . q_i
    L = 1/2 sum over (u, i, j) of (1 - (score_ui - score_uj))^2, score_uj over the same items as
        score_ui; i a target item of u, j one that u has no record of; and L2 on what a step moves

by plain SGD, a positive with its negatives at a time. The item's own records are left out under
every behaviour, so that it is not learnt that an item met is an item bought. Several behaviours
enter as one matrix X, the weighted sum of theirs; users are met by their histories alone, and who
has none is scored by b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.weighted import check_weights, weighted_sum, weights_of
from nmtr.models.base import Model, Shape, Sweep
from nmtr.models.kernels.fism import fism_users
from nmtr.models.levels import LevelPairs, Levels
from nmtr.models.space import Range, Space, Weights, Whole


@dataclass(frozen=True)
class Config:
    """FISM's settings.

    power: 1 takes the mean of a user's items, 0 their sum. l2, init_std: of all vectors.
    weights: one per behaviour, the target's last; empty for the target alone.
    """

    embedding: int = 64
    power: float = 0.5
    l2: float = 1e-3
    init_std: float = 0.05
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.embedding < 1:
            raise ValueError(f"embedding: expected 1 or more, got {self.embedding}")
        if not 0 <= self.power <= 1:
            raise ValueError(f"power: expected 0 <= power <= 1, got {self.power}")
        if not (self.l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                f"expected l2 >= 0 and init_std > 0, got {self.l2} and {self.init_std}"
            )
        check_weights(self.weights)

    def space(self) -> Space:
        return {
            "l2": Range(1e-5, 0.1, log=True, least=1e-7),
            "learning_rate": Range(0.003, 0.3, log=True),
            "negatives": Whole(1, 8),
            "power": Range(0.0, 1.0, least=0.0, most=1.0),
            "weights": Weights(0.01, 3.0, empty=0.0),
        }


class FISM(Model):
    """Two vectors and a bias for each item; one score for every behaviour."""

    trained = True
    sweeps = True
    reads = True

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.mix = weights_of(shape.behaviors, config.weights)
        used = zip(shape.behaviors, self.mix, strict=True)
        self.learns = tuple(each for each, weight in used if weight or each == shape.behaviors[-1])
        n, size = shape.n_items, config.embedding
        self.p = nn.Parameter(torch.empty(n, size).normal_(0, config.init_std))
        self.q = nn.Parameter(torch.empty(n, size).normal_(0, config.init_std))
        self.bias = nn.Parameter(torch.zeros(n))

    def sweep(self, records: Records, *, rate: float, negatives: int) -> Sweep:
        """An epoch of SGD in place, on one thread: every user moves what all share."""
        x = self.history(records.sets, self.learns)
        levels = Levels((0.0,) * (len(self.learns) - 1) + (1.0,), beta=1.0)
        pairs = LevelPairs.from_records(records, levels)
        indptr, near = (each.astype(np.int32) for each in (x.indptr, x.indices))
        users = np.flatnonzero(records.target.lengths())
        p, q, bias = (each.detach().numpy() for each in (self.p, self.q, self.bias))
        drawn, history = pairs.drawn(), (indptr, near, x.data, self.config.power)
        how = np.float32(rate), np.float32(self.config.l2)

        def epoch(seed: int) -> float:
            order = np.random.default_rng(seed).permutation(users)
            chance = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
            given = (*drawn, negatives, *history, p, q, bias, *how)
            loss, steps = fism_users(order, *given, chance)
            return float(loss / max(steps, 1))

        return epoch

    def history(self, sets: tuple[CSR, ...], behaviors: tuple[str, ...]) -> csr_array:
        """X (rows, N) of sets of these behaviours."""
        weights = dict(zip(self.shape.behaviors, self.mix, strict=True))
        return weighted_sum(sets, [weights[each] for each in behaviors])

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) the sums of the users' items' vectors."""
        self.check_histories(histories)
        x = self.history(histories.items, self.shape.behaviors)
        return torch.from_numpy(x @ self.p.detach().numpy())

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        x = self.history(histories.items, self.shape.behaviors)
        total = torch.from_numpy(x.sum(1))
        scores = (state * self._scale(total)[:, None]) @ self.q.T
        self._leave_out(scores, state, x, total)
        scores = (scores + self.bias)[:, slice(None) if items is None else items]
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def _scale(self, total: Tensor) -> Tensor:
        return torch.where(total > 1e-6, total.clamp(min=1e-6) ** -self.config.power, 0)

    def _leave_out(self, scores: Tensor, state: Tensor, x: csr_array, total: Tensor) -> None:
        """Score the user's own items (B, N), in place, as if each were not among them."""
        rows = torch.from_numpy(np.repeat(np.arange(x.shape[0]), np.diff(x.indptr)))
        own, weight = torch.from_numpy(x.indices).long(), torch.from_numpy(x.data)
        others = state[rows] - weight[:, None] * self.p[own]
        scale = self._scale(total[rows] - weight)
        scores[rows, own] = (others * self.q[own]).sum(1) * scale

    def item_vectors(self) -> Tensor:
        return self.q

    def alike(self, items: Tensor) -> Any:
        """(n, N) p_j . q_i, the likeness that scores by."""
        return self.p[items] @ self.q.T


MODEL = FISM
