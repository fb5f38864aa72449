"""A study: a folder with every trial that was made to choose a model's settings.

    study.db      an Optuna database: each trial's options, epochs, outcome and seconds
    trials.csv, best.toml, study.json   written from it by nmtr.training.tuned

A trial that has an outcome is never made again. One that was cut off, by a kill or for want of
time, keeps its line, and its place is taken by another with the same options: what is proposed
depends on the trials that were finished and on nothing else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from nmtr import __version__
from nmtr.errors import DamagedError, NmtrError, UsageError
from nmtr.files import replace_file
from nmtr.models.space import Axis, Choice, Side, Whole
from nmtr.training.folder import check_free

STORE, NAME = "study.db", "nmtr"
LABELS = {"data": "data set's fingerprint"}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
REFUSED = ("disk is full", "disk I/O", "readonly", "unable to open", "is locked")  # SQLite's words
FINISHED = ("complete", "pruned", "failed")

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Trial:
    """One trial.

    outcome: one of FINISHED, or how it was cut off; options: where it differs from the settings as
    given; epochs: what was measured after each; value, epoch: the best, where it is complete.
    """

    number: int
    round: int
    outcome: str
    options: Mapping[str, Any]
    seconds: float
    epochs: Sequence[Mapping[str, float]] = ()
    value: float | None = None
    epoch: int = 0
    error: str = ""


@dataclass(frozen=True)
class Round:
    """A stretch of a study over one space; `edges` of `winner` are why it was opened."""

    axes: Mapping[str, Axis]
    edges: Mapping[str, Side] = field(default_factory=dict)
    winner: int | None = None


class Proposals(optuna.samplers.TPESampler):
    """TPE over all axes at once, though earlier trials were drawn from narrower ranges.

    known: values that are not to be drawn.
    """

    def __init__(
        self, space: dict[str, BaseDistribution], known: Mapping[str, Any], *, seed: int
    ) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=False)
        self.space, self.known = space, known

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self.known:
            return dict(self.known)
        return super().sample_relative(study, trial, search_space)


class Study:
    """An open study; `opened` makes one."""

    def __init__(self, path: Path, inner: optuna.Study, axes: Mapping[str, Axis]) -> None:
        self.path, self.inner = path, inner
        self.rounds = [Round(axes)]
        for each in inner.user_attrs["reopened"]:
            self.rounds.append(self._next(each["edges"], each["winner"]))

    def _next(self, edges: Mapping[str, Side], winner: int) -> Round:
        axes = dict(self.rounds[-1].axes)
        for name, side in edges.items():
            axes[name] = axes[name].widened(side)  # type: ignore[union-attr]  # a choice has no edge
        return Round(axes, edges, winner)

    def reopen(self, edges: Mapping[str, Side], winner: int) -> None:
        """Begin another round, with the ranges wider where the winner lies on their edges."""
        self.rounds.append(self._next(edges, winner))
        reopened = [{"edges": dict(each.edges), "winner": each.winner} for each in self.rounds[1:]]
        self.inner.set_user_attr("reopened", reopened)

    def begin_session(self, budget: Mapping[str, Any]) -> None:
        """Note that work begins, and what it may spend."""
        now = {"began": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", "nmtr": __version__}
        now |= {"optuna": optuna.__version__, **budget}
        self.inner.set_user_attr("sessions", [*self.inner.user_attrs["sessions"], now])

    def trials(self) -> list[Trial]:
        """Every trial but the one that is running."""
        return [_read(each) for each in self.inner.get_trials(deepcopy=False, states=ENDED)]

    def trial(self, number: int) -> Trial:
        """A trial that has ended; those before it may still be running."""
        return next(each for each in self.trials() if each.number == number)

    def best(self) -> Trial | None:
        """The trial with the highest value, the earliest of equals."""
        done = [each for each in self.trials() if each.value is not None]
        return max(done, key=lambda each: each.value or 0.0, default=None)

    def ask(
        self, known: Mapping[str, Any], *, seed: int, whole: bool = True, running: int = 0
    ) -> optuna.Trial:
        """A new trial of the values known and, where `whole`, of drawn ones for all other axes."""
        place = running + sum(each.outcome in FINISHED for each in self.trials())
        drawn = np.random.SeedSequence((seed, place)).generate_state(1)[0]
        axes = self.rounds[-1].axes
        space = {name: _distribution(axes[name]) for name in axes if whole or name in known}
        self.inner.sampler = Proposals(space, known, seed=int(drawn))
        return self.inner.ask(space)


@contextmanager
def opened(path: Path, about: Mapping[str, Any], axes: Mapping[str, Axis]) -> Iterator[Study]:
    """The study in a folder, or a new one, to which nobody else writes meanwhile.

    about: what decides its trials; JSON. Raises UsageError where the folder holds a study about
    something else, or no study at all, or is in use; DamagedError where it cannot be read.
    """
    about = json.loads(json.dumps({**about, "space": {n: str(axis) for n, axis in axes.items()}}))
    if not (path / STORE).exists():
        check_free(path, "study")
    path.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if not (path / STORE).exists():
            with replace_file(path / STORE) as new, _database(new) as inner:
                inner.set_user_attr("about", about)
                inner.set_user_attr("reopened", [])
                inner.set_user_attr("sessions", [])
        with _database(path / STORE) as inner:
            _check(path, inner.user_attrs.get("about", {}), about)
            for each in inner.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                inner.tell(each.number, state=TrialState.FAIL)  # nobody is at work on it: a kill
            yield Study(path, inner, axes)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the folder's lock, SQLite's own, which goes with the process however that ends."""
    with closing(sqlite3.connect(path / ".lock", timeout=0)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise UsageError(
                f"another nmtr tune is at work in {path}; wait for it, or name another folder"
            ) from None
        yield


@contextmanager
def _database(file: Path) -> Iterator[optuna.Study]:
    storage = None
    try:
        # Not by a URL, in which a path with a ? or a # is another path.
        how = {"creator": lambda: sqlite3.connect(file)}
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=how)
        study = optuna.create_study(
            study_name=NAME, storage=storage, direction="maximize", load_if_exists=True
        )
    except Exception as error:  # SQLAlchemy's, alembic's and Optuna's own kinds
        why = str(getattr(error, "orig", error))  # without the statement that met it
        if any(each in why for each in REFUSED):
            raise NmtrError(
                f"{file.parent} cannot be written as a study: {why}; see the disk's room and the "
                "folder's rights, and give the same command again"
            ) from error
        raise DamagedError(
            f"{file} cannot be read as a study ({why}); delete its folder to start over"
        ) from error
    try:
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _check(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise UsageError, naming both, where a study is about something else."""
    if old == new:
        return
    for key in [*new, *old]:
        one, other = old.get(key), new.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            _check(path, one, other)
        raise UsageError(
            f"{path} holds a study of something else: its {LABELS.get(key, key)} is {one}, not "
            f"{other}; go on with the command that began it, or name another folder"
        )


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.values)
    if isinstance(axis, Whole):
        return IntDistribution(axis.low, axis.high, log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _read(trial: FrozenTrial) -> Trial:
    begin, epochs, end = (trial.user_attrs.get(name, {}) for name in ("begin", "epochs", "end"))
    error = end.get("error", "")
    outcomes = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "failed" if error else "pruned",
        TrialState.FAIL: end.get("cut", "killed"),
    }
    return Trial(
        trial.number,
        begin.get("round", 0),
        outcomes[trial.state],
        begin.get("options", {}),
        end.get("seconds", epochs[-1]["seconds"] if epochs else 0.0),
        epochs or [],
        trial.value if trial.state == TrialState.COMPLETE else None,
        end.get("epoch", 0),
        error,
    )
