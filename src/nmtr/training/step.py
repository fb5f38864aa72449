"""Where a training stands, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A training after one of its steps.

    epoch: from 1; epochs: how many there are, or at most where not yet `decided`, as validation may
    end them sooner; steps: of an epoch; loss: the mean so far in this epoch; followed_by: the
    trainings of the same run that come after this one, each of as many epochs as it turns out to
    need.
    """

    phase: str
    epoch: int
    step: int
    steps: int
    loss: float
    epochs: int
    decided: bool = True
    followed_by: int = 0

    @property
    def done(self) -> float:
        """Epochs of this phase that are behind it."""
        return self.epoch - 1 + self.step / self.steps

    @property
    def left(self) -> float:
        """Epochs that are ahead, at most: of this phase and of those that follow."""
        return self.epochs - self.done + self.followed_by * self.epochs


Report = Callable[[Step], None]
