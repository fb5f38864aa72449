"""MC-BPR: Multi-Channel BPR, which learns from every behaviour by how it draws its triples.

Loni et al., Bayesian Personalized Ranking with Multi-Channel User Feedback, RecSys 2016: BPR's
model and loss; the positive i comes from any level, higher ones more often, and the negative j from
a level below it or, with chance beta, from what the user has no record of (nmtr.models.levels).
An epoch visits every pair of level r with the chance w_r / max w.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmtr.models import bpr
from nmtr.models.base import Shape
from nmtr.models.levels import Levels
from nmtr.models.space import LEVELS, Space


@dataclass(frozen=True)
class Config(bpr.Config):
    """BPR's settings, and the levels'.

    beta: the chance of an unobserved negative; Gao et al.'s later code has 0.2, which on Beibei's
    validation is worse. level_weights: one per behaviour, lowest first;
    empty for halves: 1 for the target, 1/2 one level lower, 1/4, ...
    """

    beta: float = 0.8
    level_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        Levels(self.level_weights or (1.0,), self.beta)

    def space(self) -> Space:
        return {**super().space(), **LEVELS}


class MCBPR(bpr.BPR):
    """BPR over levels of preference; its scores stand for every behaviour."""

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.learns = shape.behaviors
        self.levels = Levels.of(config.level_weights, config.beta, shape.behaviors)

    def folding(self, negatives: tuple[int, ...]) -> None:
        """None: what a user's pairs weigh depends on how many of a level all users have."""


MODEL = MCBPR
