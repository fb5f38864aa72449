"""How long a training will still take, told from the steps that it reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from nmtr.training.step import Step

LEAST = 0.05  # epochs, before which a phase's own pace is not known; the one before it is taken


class Clock:
    """The time left of a whole training, all its phases, at the pace of the latest one.

    until: seconds by `now` that the training will not exceed, where it has a budget.
    """

    def __init__(
        self, until: float = float("inf"), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._until, self._now = until, now
        self._phase = ""
        self._began = self._from = self._done = 0.0
        self._pace: float | None = None  # seconds per epoch

    def left(self, step: Step) -> float | None:
        """Seconds from this step on, at most; None while there is nothing to tell them from.

        A phase that is taken up from a checkpoint is timed from there, another trial anew.
        """
        now = self._now()
        if step.phase != self._phase or step.done < self._done:
            self._phase, self._began, self._from = step.phase, now, step.done
        self._done = step.done
        moved = self._done - self._from
        if moved >= LEAST:
            self._pace = (now - self._began) / moved
        if self._pace is None:
            return None
        return max(0.0, min(step.left * self._pace, self._until - now))

    def in_words(self, step: Step) -> str:
        """Such as `at most 0:12:30 left`; without `at most` where no epoch can be spared."""
        seconds = self.left(step)
        if seconds is None:
            return "-:--:-- left"
        limit = "" if step.decided else "at most "
        return f"{limit}{timedelta(seconds=round(seconds))} left"
