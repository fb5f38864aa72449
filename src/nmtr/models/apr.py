"""APR: BPR that also holds where its vectors are moved against it, by as much as epsilon.

He, He, Du and Chua, Adversarial Personalized Ranking for Recommendation, SIGIR 2018:

    L = BPR(theta) + adversary BPR(theta + delta),
    delta = epsilon g / |g| for each vector of a triple, g the slope of its BPR loss

so that, with d = q_i - q_j, p_u moves by -epsilon d / |d|, q_i by -epsilon p_u / |p_u| and q_j by
as much the other way. delta is held fixed in the slope of the second loss. BPR's model and sweep;
its first `pretrain` epochs are plain BPR. Biases, which the paper has not, are not moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nmtr.data.records import Records
from nmtr.models import bpr
from nmtr.models.base import Shape
from nmtr.models.kernels import Ints
from nmtr.models.kernels.apr import apr_users
from nmtr.models.levels import LevelPairs
from nmtr.models.space import Range, Space, Whole


@dataclass(frozen=True)
class Config(bpr.Config):
    """BPR's settings, and the adversary's: its reach, what its loss weighs, and the epochs before.

    pretrain: so many of the epochs are plain BPR, and are not chosen.
    """

    epsilon: float = 0.5
    adversary: float = 1.0
    pretrain: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.epsilon < math.inf and 0 <= self.adversary < math.inf):
            raise ValueError(
                f"epsilon, adversary: expected 0 or more, got {self.epsilon} and {self.adversary}"
            )
        if self.pretrain < 0:
            raise ValueError(f"pretrain: expected 0 epochs or more, got {self.pretrain}")

    def space(self) -> Space:
        return {
            **super().space(),
            "epsilon": Range(0.01, 2.0, log=True, least=1e-3),
            "adversary": Range(0.1, 10.0, log=True, least=1e-3),
            "pretrain": Whole(1, 10, least=0),
        }


class APR(bpr.BPR):
    """BPR and its adversary; its scores stand for every behaviour."""

    config: Config

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.warm_up = config.pretrain
        self._epoch = 0

    def begin(self, epoch: int) -> None:
        self._epoch = epoch

    def visits(self, records: Records, rate: np.float32, negatives: int) -> bpr.Visit:
        plain = super().visits(records, rate, negatives)
        drawn = LevelPairs.from_records(records, bpr.ONE_LEVEL).drawn()
        learned = self.learned()
        how = rate, np.float32(self.config.l2)
        against = np.float32(self.config.epsilon), np.float32(self.config.adversary)

        def visit(users: Ints, chance: np.uint64) -> tuple[float, int]:
            if self._epoch < self.config.pretrain:
                return plain(users, chance)
            return apr_users(users, *drawn, negatives, *learned, *how, *against, chance)

        return visit

    def folding(self, negatives: tuple[int, ...]) -> None:
        """None: fold-in knows no adversary."""


MODEL = APR
