"""What a worker is told, and the window in which it times a training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def worker(benchmark_module: Callable[[str], ModuleType]) -> Any:
    return benchmark_module("workers.worker")


@pytest.fixture
def contest(benchmark_module: Callable[[str], ModuleType]) -> Any:
    return benchmark_module("harness.contest")


def clock(*times: float) -> Callable[[], float]:
    """Reads these times in turn."""
    found: Iterator[float] = iter(times)
    return lambda: next(found)


def test_a_spec_reaches_the_worker_as_it_was_sent(worker: Any) -> None:
    spec = worker.Spec(("train", "rank"), model="NeuMF", options={"k": 64}, shape=(10, 5))
    assert worker.Spec.parse(json.dumps(asdict(spec))) == spec


@pytest.mark.parametrize("text", ['{"steps": ["train"], "stepz": 1}', '{"model": "bpr"}'])
def test_a_spec_that_is_misspelled_or_asks_for_nothing_is_refused(worker: Any, text: str) -> None:
    with pytest.raises(ValueError, match="expected a spec of steps"):
        worker.Spec.parse(text)


def test_whole_epochs_are_timed_from_the_end_of_the_warm_up(worker: Any) -> None:
    # Made at 0; four steps an epoch; warm after the third; then a step a second.
    window = worker.Window(4.0, 100.0, clock=clock(0, 5, 7, 8, 9, 10, 11, 12))
    steps = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]
    assert [window.step(epoch, step, 4) for epoch, step in steps] == [False] * 6 + [True]
    assert window.seconds_per_epoch == 4.0


def test_an_epoch_cut_short_is_charged_the_whole_of_its_beginning(worker: Any) -> None:
    # 100 steps of half a second would take 50; the first came after 9.
    window = worker.Window(4.0, 5.0, clock=clock(0, 9, 9.5, 10, *(10.5 + n / 2 for n in range(20))))
    over = next(step for step in range(1, 101) if window.step(1, step, 100))
    assert over == 13
    assert window.seconds_per_epoch == 9 + 50


def test_a_training_that_ends_before_it_is_warm_has_no_rate(worker: Any) -> None:
    window = worker.Window(4.0, 5.0, clock=clock(0, 1))
    window.step(1, 1, 100)
    with pytest.raises(worker.SkippedError, match="warm-up"):
        _ = window.seconds_per_epoch


def test_measurements_are_the_last_line_that_is_an_object(contest: Any) -> None:
    assert contest.parse('{"a": 1}\nnoise\n\n{"b": 2.5}\n') == {"b": 2.5}
    assert contest.parse('{"skipped": "no such model"}') == {"failed": "no such model"}
    assert "failed" in contest.parse("Traceback\n")


def test_everyone_gets_as_many_threads_and_what_their_manual_asks(
    contest: Any, worker: Any
) -> None:
    spec = worker.Spec(("train",), threads=2)
    found = contest.environ_of(contest.Contestant("a", spec=spec))
    pools = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    assert [found[f"{name}_NUM_THREADS"] for name in pools] == ["2"] * 4
    asked = contest.Contestant("b", spec=spec, environ={"OPENBLAS_NUM_THREADS": "1"})
    assert contest.environ_of(asked)["OPENBLAS_NUM_THREADS"] == "1"
