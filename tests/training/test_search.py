"""A search spends its budget as asked, forgets nothing, and looks past the edge of its space."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from nmtr.errors import DataError, NmtrError, UsageError
from nmtr.models.space import Range, Space, Whole, axes
from nmtr.training.search import Budget, Search, Watch
from nmtr.training.settings import Settings
from nmtr.training.study import Trial, opened
from nmtr.training.trainer import Training

SPACE: Space = {
    "l2": Range(0.001, 0.1, log=True),
    "batch_size": Whole(512, 8192, log=True),
}
FEW: Space = {"negatives": Whole(2, 4), "l2": Range(0.001, 0.1, log=True)}
BASE = Settings("nmtr-gmf", "time", {"l2": 0.0}, Training(epochs=10))
Objective = Callable[[Settings, Watch], tuple[float, int]]


@pytest.fixture(autouse=True)
def unsafe_but_fast() -> Iterator[None]:
    """No wait for the disk: what is lost with the power is no matter here."""

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    yield
    event.remove(Engine, "connect", relax)


@contextmanager
def searching(path: Path, objective: Objective, space: Space = SPACE) -> Iterator[Search]:
    with opened(path, {"model": BASE.model}, axes(space, ("buy",))) as study:
        yield Search(study, BASE, space, ("buy",), objective)


def search(path: Path, objective: Objective, budget: Budget, space: Space = SPACE) -> list[Trial]:
    with searching(path, objective, space) as found:
        found.run(budget)
        return found.study.trials()


def hill(top: float) -> Objective:
    """A value that falls with the distance of l2 from a top, by its logarithm."""

    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        value = -abs(math.log(max(settings.options["l2"], 1e-12) / top))
        watch.epoch({"ndcg@100": value})
        return value, 1

    return objective


def more_is_better(settings: Settings, watch: Watch) -> tuple[float, int]:
    """A value that rises with the count of negatives, without an end."""
    return settings.training.negatives[0] + hill(0.01)(settings, watch)[0] / 100, 1


def finished(trials: list[Trial]) -> list[tuple[str, Mapping[str, Any], float | None]]:
    return [
        (each.outcome, each.options, each.value)
        for each in trials
        if each.outcome in ("complete", "pruned", "failed")
    ]


def test_the_first_trial_is_of_the_settings_as_given_and_no_other_leaves_the_space(
    tmp_path: Path,
) -> None:
    seen: list[Settings] = []

    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        seen.append(settings)
        return hill(0.01)(settings, watch)

    trials = search(tmp_path, objective, Budget(14, widen=False))
    assert seen[0] == BASE
    assert [each.number for each in trials] == list(range(14))
    for settings, trial in zip(seen[1:], trials[1:], strict=True):
        l2, size = settings.options["l2"], settings.training.batch_size
        assert trial.options == {"l2": l2, "batch_size": size}
        assert 0.001 <= l2 <= 0.1
        assert 512 <= size <= 8192
        assert l2 == float(f"{l2:.3g}")
    assert len({(each.options["l2"], each.training.batch_size) for each in seen}) == 14


def test_proposals_come_nearer_to_what_was_good(tmp_path: Path) -> None:
    trials = search(tmp_path, hill(0.02), Budget(22, widen=False))
    values = [each.value or 0.0 for each in trials[1:]]
    at_random, proposed = sorted(values[:9]), sorted(values[9:])
    assert proposed[6] > 0.7 * at_random[4]  # the medians


def test_a_search_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    calls: list[Mapping[str, Any]] = []

    def interrupted(at: int) -> Objective:
        def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
            if len(calls) == at:
                calls.append({})
                raise KeyboardInterrupt
            calls.append(settings.options)
            return more_is_better(settings, watch)

        return objective

    for at in (0, 5, 11, 17):  # in all three rounds
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "cut", interrupted(at), Budget(8), FEW)
    cut = search(tmp_path / "cut", interrupted(-1), Budget(8), FEW)
    straight = search(tmp_path / "straight", more_is_better, Budget(8), FEW)
    assert finished(cut) == finished(straight)
    assert (len(straight), len(calls), len(cut)) == (16, 20, 20)
    assert [each.outcome for each in cut].count("interrupted") == 4
    assert search(tmp_path / "cut", interrupted(-1), Budget(8), FEW) == cut
    assert len(calls) == 20


def test_more_trials_may_be_asked_for_later(tmp_path: Path) -> None:
    first = search(tmp_path / "more", hill(0.01), Budget(2))
    more = search(tmp_path / "more", hill(0.01), Budget(5))
    assert more[:2] == first
    assert finished(more) == finished(search(tmp_path / "once", hill(0.01), Budget(5)))


def test_a_winner_on_the_edge_reopens_the_search_twice_at_most(tmp_path: Path) -> None:
    with searching(tmp_path, more_is_better, FEW) as found:
        assert found.run(Budget(7)) == "trials"
        rounds, trials = found.study.rounds, found.study.trials()
        assert [dict(each.edges) for each in rounds] == [{}, *[{"negatives": "high"}] * 2]
        assert [each.axes["negatives"] for each in rounds] == [
            *(Whole(2, 4), Whole(2, 6), Whole(2, 10))
        ]
        assert [each.axes["l2"] for each in rounds] == [FEW["l2"]] * 3
        assert [[t.round for t in trials].count(n) for n in range(3)] == [7, 4, 4]
        for each, middle in zip(rounds[1:], (5, 8), strict=True):
            winner = trials[each.winner or 0]
            probe = next(t for t in trials if t.round == rounds.index(each))
            assert probe.options == {**winner.options, "negatives": middle}


def test_a_winner_past_the_low_end_of_a_log_range_lies_on_its_edge(tmp_path: Path) -> None:
    with searching(tmp_path, hill(1e-12)) as found:  # as given, l2 = 0 is the best
        found.run(Budget(2))
        assert found.study.best() == found.study.trials()[0]
        assert [dict(each.edges) for each in found.study.rounds[1:]] == [{"l2": "low"}] * 2


@pytest.mark.parametrize(
    ("top", "space", "widen"),
    [
        (0.01, SPACE, True),
        (1e-12, SPACE, False),
        (1e-12, {"l2": Range(0.001, 0.1, log=True, least=0.001)}, True),
    ],
    ids=["inside", "not to be widened", "at its bound"],
)
def test_no_other_winner_does(tmp_path: Path, top: float, space: Space, widen: bool) -> None:
    with searching(tmp_path, hill(top), space) as found:
        found.run(Budget(4, widen=widen))
        assert len(found.study.rounds) == 1
        assert len(found.study.trials()) == 4


def test_a_trial_behind_most_others_is_pruned_after_the_first_epochs(tmp_path: Path) -> None:
    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        last = len(made) >= 6
        made.append(settings)
        for epoch in range(1, 8):
            watch.epoch({"ndcg@100": (0.0 if last else 1.0) + epoch / 100})
        return 1.07, 7

    made: list[Settings] = []
    trials = search(tmp_path, objective, Budget(7, widen=False))
    assert [each.outcome for each in trials] == ["complete"] * 6 + ["pruned"]
    assert [len(each.epochs) for each in trials] == [7] * 6 + [3]
    assert [each["ndcg@100"] for each in trials[-1].epochs] == [0.01, 0.02, 0.03]
    assert (trials[-1].value, trials[0].value, trials[0].epoch) == (None, 1.07, 7)


def test_epochs_that_cannot_be_chosen_are_not_held_against_a_trial(tmp_path: Path) -> None:
    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        warm_up = 4 if len(made) >= 6 else 0
        made.append(settings)
        for epoch in range(1, 8):
            watch.epoch({"ndcg@100": 1.0 if epoch > warm_up else 0.0}, warm_up=warm_up)
        return 1.0, 7

    made: list[Settings] = []
    assert search(tmp_path, objective, Budget(7, widen=False))[-1].outcome == "complete"


@pytest.mark.parametrize("error", [NmtrError("training diverged"), MemoryError("too large")])
def test_a_trial_that_fails_is_recorded_and_the_next_one_made(
    tmp_path: Path, error: Exception
) -> None:
    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        if settings.options["l2"] > 0.01:
            raise error
        return hill(0.001)(settings, watch)

    trials = search(tmp_path, objective, Budget(12, widen=False))
    failed = [each for each in trials if each.outcome == "failed"]
    assert {each.error for each in failed} == {str(error)}
    assert len(trials) == 12
    assert 0 < len(failed) < 8
    assert all(each.options["l2"] > 0.01 and each.value is None for each in failed)


@pytest.mark.parametrize("error", [DataError("nothing to learn from"), RuntimeError("a bug")])
def test_what_no_other_options_would_mend_ends_the_search(tmp_path: Path, error: Exception) -> None:
    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        raise error

    with searching(tmp_path, objective) as found, pytest.raises(type(error)):
        found.run(Budget(3))
    with searching(tmp_path, hill(0.01)) as found:
        (trial,) = found.study.trials()
        assert trial.outcome == "interrupted"
        assert str(error) in trial.error


class Clock:
    """Time that passes as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_no_trial_goes_on_past_the_minutes_however_often_the_study_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)

    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        for _ in range(5):
            clock.now += 10
            watch.step()
        return hill(0.01)(settings, watch)

    with searching(tmp_path, objective) as found:
        assert found.run(Budget(2, minutes=10)) == "trials"
        assert clock.now == 100
        assert found.run(Budget(20, minutes=2)) == "minutes"
        assert clock.now == 120
    with searching(tmp_path, objective) as found:
        assert found.run(Budget(20, minutes=2)) == "minutes"
        assert clock.now == 120
        assert found.run(Budget(20, minutes=3)) == "minutes"
        trials = found.study.trials()
    assert clock.now == 180
    assert [each.outcome for each in trials] == [
        *("complete", "complete", "out of time", "complete", "out of time")
    ]
    assert [each.seconds for each in trials] == [50, 50, 20, 50, 10]
    assert trials[2].options == trials[3].options  # its place was taken again


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"minutes": 0.0}, {"minutes": math.nan}])
def test_a_budget_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"1 trial or more.*got"):
        Budget(**wrong)


def test_of_two_that_run_at_once_the_later_may_end_first(tmp_path: Path) -> None:
    told: list[int] = []
    with searching(tmp_path, hill(0.01)) as found:
        both = replace(found, notify=lambda trial, done, share: told.append(trial.number))
        trials = [both.propose(running)[0] for running in range(2)]
        for each in reversed(trials):
            Watch(each, "ndcg@100", math.inf).end(TrialState.COMPLETE, 0.5, epoch=1)
            both.tell(each.number, 2)
    assert told == [1, 0]


def test_a_study_is_used_by_one_search_at_a_time(tmp_path: Path) -> None:
    with searching(tmp_path, hill(0.01)), pytest.raises(UsageError, match="at work in"):
        search(tmp_path, hill(0.01), Budget(1, widen=False))
    assert len(search(tmp_path, hill(0.01), Budget(1, widen=False))) == 1


def test_seconds_and_epochs_of_every_trial_are_kept(tmp_path: Path) -> None:
    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        for value in (0.1, 0.3, 0.2):
            watch.epoch({"ndcg@100": value, "hr@100": 2 * value})
        return 0.3, 2

    (trial,) = search(tmp_path, objective, Budget(1, widen=False))
    assert [(each["ndcg@100"], each["hr@100"]) for each in trial.epochs] == [
        *((0.1, 0.2), (0.3, 0.6), (0.2, 0.4))
    ]
    seconds = [0.0, *(each["seconds"] for each in trial.epochs), trial.seconds]
    assert all(one <= other for one, other in pairwise(seconds))


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "50% a?b#c"
    assert len(search(path, hill(0.01), Budget(1, widen=False))) == 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert search(path, hill(0.01), Budget(2, widen=False))[0].outcome == "complete"


def test_optuna_s_own_tools_read_the_study(tmp_path: Path) -> None:
    import optuna

    trials = search(tmp_path, hill(0.01), Budget(3))
    study = optuna.load_study(study_name="nmtr", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.best_value == max(each.value or -9 for each in trials)
    assert set(study.trials[-1].params) == {"l2", "batch_size"}
