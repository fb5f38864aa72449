"""VE-BPR: BPR whose sampler knows what stands between target and nothing, "view-enhanced".

Ding, Feng, He, Yu, Li and Jin, An Improved Sampler for Bayesian Personalized Ranking by Leveraging
View Data, WWW 2018. A user's items are three sets: P of the target, V of any auxiliary behaviour
but not the target, and the rest. BPR's model and loss, with (i, j) drawn

    from P x V with chance omega_1,    P x rest with omega_2,    V x rest with omega_3

alike within each set; who has no V is always given P x rest. An epoch draws as many pairs for a
user as P holds, times the negatives. Their views are here all auxiliary behaviours together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmtr.data.records import Records, union
from nmtr.models import bpr
from nmtr.models.base import Shape
from nmtr.models.kernels import Ints
from nmtr.models.kernels.between import between_users
from nmtr.models.levels import LevelPairs, Levels
from nmtr.models.space import Range, Space
from nmtr.models.strangers import known_users

TWO_LEVELS = Levels((1.0, 1.0), beta=1.0)


@dataclass(frozen=True)
class Config(bpr.Config):
    """BPR's settings, and the sampler's.

    above, between: omega_1 and omega_3, the chances that an item of V is the negative of one of P,
    or the positive of one of the rest; omega_2 is what they leave.
    """

    above: float = 0.1
    between: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.above >= 0 and self.between >= 0 and self.above + self.between <= 1):
            raise ValueError(
                "above, between: expected chances that sum to at most 1, got "
                f"{self.above} and {self.between}"
            )

    def space(self) -> Space:
        return {
            **super().space(),
            "above": Range(0.0, 0.5, least=0.0, most=0.5),
            "between": Range(0.0, 0.5, least=0.0, most=0.5),
        }


class VEBPR(bpr.BPR):
    """BPR over three sets of items; its scores stand for every behaviour."""

    config: Config

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.learns = shape.behaviors

    def learn(self, records: Records) -> None:
        self.known = known_users(records.only(self.shape.behaviors[-1:]))

    def visits(self, records: Records, rate: np.float32, negatives: int) -> bpr.Visit:
        auxiliary = union(records.sets[:-1] or (records.target,))
        two = Records(("auxiliary", "target"), (auxiliary, records.target))
        pairs = LevelPairs.from_records(two, TWO_LEVELS)
        learned = self.learned()
        chances = self.config.above, self.config.between
        how = rate, np.float32(self.config.l2)

        def visit(users: Ints, chance: np.uint64) -> tuple[float, int]:
            drawn = (pairs.indptr, pairs.items, pairs.seen)
            return between_users(users, *drawn, *chances, negatives, *learned, *how, chance)

        return visit

    def folding(self, negatives: tuple[int, ...]) -> None:
        """None: a user's loss has pairs of three kinds, which fold-in does not know."""


MODEL = VEBPR
