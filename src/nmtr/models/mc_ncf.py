"""MC-GMF, MC-MLP and MC-NeuMF: NCF's models on the pairs that Multi-Channel BPR draws.

Gao et al. (ICDE 2019) replace MC-BPR's matrix factorisation by NCF's units. Positives and negatives
come from levels of preference as MC-BPR's do (nmtr.models.levels), the loss is NCF's log loss of
"preferred" against "not preferred"; its scores are no log odds of a record.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmtr.models import ncf
from nmtr.models.base import Shape
from nmtr.models.levels import Levels
from nmtr.models.space import LEVELS, Space


@dataclass(frozen=True)
class Config(ncf.Config):
    """NCF's settings, and the levels' (as mc_bpr.Config has them)."""

    beta: float = 0.8
    level_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        Levels(self.level_weights or (1.0,), self.beta)

    def space(self) -> Space:
        return {**super().space(), **LEVELS}


class MCNCF(ncf.NCF):
    """NCF over levels of preference; its scores stand for every behaviour."""

    probabilistic = False

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.learns = shape.behaviors
        self.levels = Levels.of(config.level_weights, config.beta, shape.behaviors)

    def folding(self, negatives: tuple[int, ...]) -> None:
        """None: what a user's pairs weigh depends on how many of a level all users have."""


MODEL = MCNCF
