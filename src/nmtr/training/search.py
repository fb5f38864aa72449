"""A search: trials of an objective, a round after another, until a budget is spent.

The first trial is of the settings as given, the next few are drawn at random, then TPE proposes.
Where the winner lies on the edge of its space, what is best may lie past it: another round has the
ranges wider there, and first tries the winner's own settings with one option past its edge.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from nmtr.errors import DataError, NmtrError, UsageError
from nmtr.models.space import Range, Side, Space, edges, options, read
from nmtr.training.settings import Settings, override
from nmtr.training.study import FINISHED, Round, Study, Trial

MOST_REOPENED = 2
LEAST_COMPLETE = 5  # trials before any is pruned
LEAST_BESIDE = 3  # how many of them must have come as far as one that is
FAILURES = (NmtrError, MemoryError, torch.OutOfMemoryError)  # of one trial's own making


@dataclass(frozen=True)
class Budget:
    """What a study may spend.

    trials: with an outcome, in its first round; half as many in each of two more at most, where
    `widen` lets a winner on the edge reopen the search. minutes: of all trials together.
    """

    trials: int = 40
    minutes: float | None = None
    widen: bool = True

    def __post_init__(self) -> None:
        if self.trials < 1 or not (self.minutes is None or 0 < self.minutes < math.inf):
            raise UsageError(
                f"expected 1 trial or more, and minutes above 0, got {self.trials} trials and "
                f"{self.minutes} minutes"
            )

    def share(self, place: int) -> int:
        """How many trials a round has."""
        return math.ceil(self.trials / 2) if place else self.trials


class OutOfTimeError(Exception):
    """The minutes are over."""


class Watch:
    """Follows one trial: notes its epochs, and ends it where it is behind or the time is over."""

    def __init__(self, trial: optuna.Trial, metric: str, until: float) -> None:
        self.trial, self.metric, self.until = trial, metric, until
        self.epochs: list[dict[str, float]] = []
        self.began = time.monotonic()

    def step(self) -> None:
        """Raise OutOfTimeError where no other step may begin."""
        if time.monotonic() >= self.until:
            raise OutOfTimeError

    def epoch(self, values: Mapping[str, float], *, warm_up: int = 0) -> None:
        """Note an epoch; raise TrialPruned where most others were better when they were there.

        warm_up: so many first epochs cannot be chosen.
        """
        self.note(values)
        place = len(self.epochs) - warm_up
        if place > 0:
            self.trial.report(values[self.metric], place)
            if self.trial.should_prune():
                raise optuna.TrialPruned

    def note(self, values: Mapping[str, float]) -> None:
        """Note what was measured after an epoch."""
        self.epochs.append({**values, "seconds": self._seconds()})
        self.trial.set_user_attr("epochs", self.epochs)

    def end(self, state: TrialState, value: float | None = None, **said: Any) -> None:
        self.trial.set_user_attr("end", {"seconds": self._seconds(), **said})
        self.trial.study.tell(self.trial, value, state)

    def _seconds(self) -> float:
        return round(time.monotonic() - self.began, 3)


Objective = Callable[[Settings, Watch], tuple[float, int]]  # the best value, and its epoch
Notify = Callable[[Trial, int, int], None]  # the trial, how many of its round are done, of how many


@dataclass(frozen=True)
class Search:
    """Trials of an objective, of settings that differ from `base` by what the space says."""

    study: Study
    base: Settings
    space: Space
    behaviors: tuple[str, ...]
    objective: Objective
    notify: Notify | None = None

    def run(self, budget: Budget) -> str:
        """Make the trials that are missing; returns what ended them, `trials` or `minutes`."""
        warm_up = max(3, self.base.training.epochs // 5)
        self.study.inner.pruner = optuna.pruners.MedianPruner(
            LEAST_COMPLETE, warm_up, n_min_trials=LEAST_BESIDE
        )
        until = math.inf
        if budget.minutes is not None:
            spent = sum(each.seconds for each in self.study.trials())
            until = time.monotonic() + 60 * budget.minutes - spent
        while True:
            share = budget.share(len(self.study.rounds) - 1)
            if not self.fill(share, until):
                return "minutes"
            found, winner = self.edges(), self.study.best()
            if not (found and winner and budget.widen and len(self.study.rounds) <= MOST_REOPENED):
                return "trials"
            self.study.reopen(found, winner.number)

    def fill(self, share: int, until: float) -> bool:
        """Make a round's trials that are missing; False where the time is over before."""
        while len(self.finished()) < share:
            if time.monotonic() >= until:
                return False
            trial, chosen = self.propose()
            self._follow(Watch(trial, self.base.training.select, until), chosen)
            self.tell(trial.number, share)
        return True

    def tell(self, number: int, share: int) -> None:
        """Notify of a trial that has ended."""
        if self.notify:
            self.notify(self.study.trial(number), len(self.finished()), share)

    def edges(self) -> dict[str, Side]:
        """On which edges of the space, as wide as it is now, the winner lies."""
        winner = self.study.best()
        return edges(self.study.rounds[-1].axes, self._values(winner.options)) if winner else {}

    def finished(self) -> list[Trial]:
        """The trials of this round that have an outcome."""
        now = len(self.study.rounds) - 1
        return [t for t in self.study.trials() if t.round == now and t.outcome in FINISHED]

    def _values(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The axes' values in the settings that options make."""
        settings = override(self.base, chosen)
        return read(self.space, self.behaviors, {**settings.options, **asdict(settings.training)})

    def _known(self, chosen: Mapping[str, Any], now: Round) -> dict[str, Any]:
        """The same, less those that the space does not hold."""
        found = self._values(chosen).items()
        return {name: value for name, value in found if now.axes[name].contains(value)}

    def _past_the_edge(self, now: Round, name: str, side: Side) -> dict[str, Any]:
        """The winner's values, but one: the middle of what this round has opened of its range."""
        wide, narrow = now.axes[name], self.study.rounds[-2].axes[name]
        assert isinstance(wide, Range)
        assert isinstance(narrow, Range)
        low = side == "low"
        opened = replace(wide, high=narrow.low) if low else replace(wide, low=narrow.high)
        assert now.winner is not None
        winner = self.study.trial(now.winner)
        return {**self._known(winner.options, now), name: opened.at(0.5)}

    def propose(self, running: int = 0) -> tuple[optuna.Trial, dict[str, Any]]:
        """One more trial beside those that are running, and its options."""
        now, done = self.study.rounds[-1], len(self.finished()) + running
        as_given = not done and not now.edges
        known = self._known({}, now) if as_given else {}
        if done < len(now.edges):
            known = self._past_the_edge(now, *list(now.edges.items())[done])
        seed = self.base.training.seed
        trial = self.study.ask(known, seed=seed, whole=not as_given, running=running)
        chosen = {} if as_given else options(self.space, self.behaviors, trial.params)
        trial.set_user_attr("begin", {"round": len(self.study.rounds) - 1, "options": chosen})
        return trial, chosen

    def _follow(self, watch: Watch, chosen: Mapping[str, Any]) -> None:
        try:
            value, epoch = self.objective(override(self.base, chosen), watch)
        except optuna.TrialPruned:
            watch.end(TrialState.PRUNED)
        except OutOfTimeError:
            watch.end(TrialState.FAIL, cut="out of time")
        except BaseException as error:
            if not isinstance(error, FAILURES) or isinstance(error, DataError):
                watch.end(TrialState.FAIL, cut="interrupted", error=repr(error))
                raise
            # Not FAIL, which would tell TPE nothing: what fails is worse than what is pruned.
            watch.end(TrialState.PRUNED, error=str(error) or repr(error))
        else:
            watch.end(TrialState.COMPLETE, value, epoch=epoch)
