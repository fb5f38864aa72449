"""The time left is that of the whole training, and no promise where validation may end it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from nmtr.cli import show
from nmtr.cli.clock import Clock
from nmtr.data.interactions import Interactions
from nmtr.training.run import Settings, execute
from nmtr.training.step import Step

SELECTION = Step("selection", 1, 1, 10, 0.5, epochs=30, decided=False, followed_by=2)
REFIT = Step("refit", 1, 1, 10, 0.5, epochs=4)


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_epochs_ahead_are_this_phase_s_and_those_of_what_follows() -> None:
    half = replace(SELECTION, epoch=3, step=5)
    assert half.done == 2.5
    assert half.left == 27.5 + 2 * 30
    assert replace(REFIT, epoch=4, step=10).left == 0


def test_the_time_left_is_at_the_pace_so_far_over_all_phases(time: Time) -> None:
    clock = Clock(now=time)
    assert clock.left(SELECTION) is None
    assert clock.in_words(SELECTION) == "-:--:-- left"
    time.now += 4.0
    later = replace(SELECTION, step=5)  # 0.4 epochs in 4 s, so 10 s each
    assert clock.left(later) == pytest.approx(10 * (29.5 + 60))
    assert clock.in_words(later) == "at most 0:14:55 left"


def test_what_validation_has_decided_is_no_longer_at_most(time: Time) -> None:
    clock = Clock(now=time)
    clock.left(SELECTION)
    time.now += 10
    clock.left(replace(SELECTION, epoch=2))
    time.now += 60  # the last phase ended by ranking
    assert clock.in_words(REFIT) == "0:00:39 left"  # 3.9 epochs at the pace before
    time.now += 2
    assert clock.left(replace(REFIT, epoch=2)) == pytest.approx(2 * 2.9)  # and now at its own


def test_a_checkpoint_is_no_work_of_this_process(time: Time) -> None:
    clock = Clock(now=time)
    clock.left(replace(SELECTION, epoch=21))
    time.now += 10
    assert clock.left(replace(SELECTION, epoch=22)) == pytest.approx(10 * (30 - 21.1 + 60))


def test_another_trial_of_the_same_phase_is_timed_anew(time: Time) -> None:
    clock = Clock(now=time)
    clock.left(SELECTION)
    time.now += 100
    clock.left(replace(SELECTION, epoch=2))
    time.now += 1000
    clock.left(SELECTION)
    time.now += 3
    assert clock.left(replace(SELECTION, epoch=2)) == pytest.approx(3 * (30 - 1.1 + 60))


def test_a_budget_is_not_exceeded(time: Time) -> None:
    clock = Clock(until=time.now + 30, now=time)
    clock.left(SELECTION)
    time.now += 20
    assert clock.left(replace(SELECTION, epoch=2)) == 10
    time.now += 20
    assert clock.left(replace(SELECTION, epoch=3)) == 0


def test_a_run_reports_each_phase_with_those_that_follow(
    timed: Interactions, small: Callable[..., Settings]
) -> None:
    told: list[Step] = []
    run = execute(timed, small(patience=1, epochs=4, threads=1), report=told.append)
    phases = {each.phase: each for each in told}
    assert list(phases) == ["selection", "calibration", "refit"]
    assert [phases[each].followed_by for each in phases] == [2, 1, 0]
    assert [phases[each].decided for each in phases] == [False, True, True]
    assert phases["selection"].epochs == 4
    assert phases["refit"].epochs == phases["refit"].epoch == run.epochs
    assert phases["refit"].left == 0
    uncalibrated: list[Step] = []
    settings = small(calibrate=False, select="none", epochs=2, threads=1)
    execute(timed, settings, report=uncalibrated.append)
    assert {(each.phase, each.followed_by) for each in uncalibrated} == {("refit", 0)}


def test_the_bar_shows_the_whole_s_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(show, "notes", Console(file=screen, force_terminal=True, width=100))
    with show.training_bar(minutes=10) as report:
        report(SELECTION)
        report(replace(SELECTION, epoch=30, step=10))
    assert "selection, epoch 30 of 30, loss 0.5000" in screen.getvalue()
    assert "at most 0:0" in screen.getvalue()
