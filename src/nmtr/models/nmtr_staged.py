"""NMTR trained level by level, as the paper's III.D has it before it turns to joint training.

First the lowest behaviour's loss alone is minimised for `stage_epochs` epochs, then the next one's,
the target's last and for as long as training goes on. Nothing is frozen: the embeddings are shared,
and a level's loss reaches the units below it through the cascade, so a later stage tunes what the
earlier ones learned. Only epochs of the target's stage can be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmtr.models import nmtr
from nmtr.models.base import Shape
from nmtr.models.space import Space, Whole


@dataclass(frozen=True)
class Config(nmtr.Config):
    """NMTR's settings, less lambdas: a stage has one loss.

    stage_epochs: of each behaviour below the target.
    """

    stage_epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage_epochs < 1:
            raise ValueError(f"stage_epochs: expected 1 or more, got {self.stage_epochs}")
        if self.lambdas:
            raise ValueError(
                f"lambdas: a stage has one loss, which nothing weighs; expected none, got "
                f"{self.lambdas}"
            )

    def space(self) -> Space:
        whole = {name: each for name, each in super().space().items() if name != "lambdas"}
        return {**whole, "stage_epochs": Whole(1, 20)}


class StagedNMTR(nmtr.NMTR):
    """The cascade, one level's loss at a time."""

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.stage_epochs = config.stage_epochs
        self.warm_up = config.stage_epochs * (shape.n_behaviors - 1)
        self._learn_level(shape.n_behaviors - 1)

    def begin(self, epoch: int) -> None:
        self._learn_level(min(epoch // self.stage_epochs, self.shape.n_behaviors - 1))

    def _learn_level(self, level: int) -> None:
        self.lambdas.zero_()
        self.lambdas[level] = 1.0


MODEL = StagedNMTR
