"""From measurements to verdicts and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Import = Callable[[str], ModuleType]


@pytest.fixture
def harness(benchmark_module: Import) -> Any:
    """The modules that judge, as attributes."""
    names = ("contest", "measurements", "tables", "tasks", "verdicts")
    found = ModuleType("judging")
    for name in names:
        setattr(found, name, benchmark_module(f"harness.{name}"))
    return found


@pytest.fixture
def measured(harness: Any) -> Callable[..., list[Any]]:
    """Measurements of contestants, a value a round."""

    def make(metric: str, **values: Sequence[float]) -> list[Any]:
        return [
            harness.measurements.Measurement("t", name, name[:4], 2, n, metric, value)
            for name, each in values.items()
            for n, value in enumerate(each, 1)
        ]

    return make


@pytest.fixture
def task(harness: Any) -> Callable[..., Any]:
    """A task with contestants by name; names that begin with ours are ours."""

    def make(*names: str, better: str = "more", kind: str = "times", value: float = 1.0) -> Any:
        sides = ["ours" if name.startswith("ours") else "peer" for name in names]
        players = tuple(map(harness.contest.Contestant, names, sides))
        target = harness.tasks.Target(kind, value)
        return harness.tasks.Task("t", "what", "rate", better, players, target)

    return make


def test_ratios_are_taken_within_a_round_and_the_best_peer_counts(
    harness: Any, task: Any, measured: Any
) -> None:
    # The machine is twice as fast in round 2; ours is 4 times the better peer throughout.
    found = measured("rate", ours=[40, 80], peer_slow=[1, 2], peer_fast=[10, 20])
    verdict = harness.verdicts.judge(task("ours", "peer_slow", "peer_fast", value=4), found)
    assert (verdict.peer, verdict.met) == ("peer_fast", True)
    assert (verdict.figure.low, verdict.figure.median, verdict.figure.high) == (4, 4, 4)


def test_where_less_is_better_half_the_seconds_are_twice_as_good(
    harness: Any, task: Any, measured: Any
) -> None:
    found = measured("rate", ours=[1.0], peer_a=[2.0], peer_b=[9.0])
    verdict = harness.verdicts.judge(task("ours", "peer_a", "peer_b", better="less"), found)
    assert (verdict.peer, verdict.figure.median, verdict.met) == ("peer_a", 2.0, True)


def test_a_start_may_take_so_much_more_than_the_bare_one(
    harness: Any, task: Any, measured: Any
) -> None:
    found = measured("rate", ours=[0.5, 0.3, 0.35], peer=[0.1, 0.1, 0.1])
    asked = task("ours", "peer", better="less", kind="plus", value=0.3)
    verdict = harness.verdicts.judge(asked, found)
    assert (pytest.approx(0.25), True) == (verdict.figure.median, verdict.met)


def test_a_limit_is_judged_by_the_worst_of_ours(harness: Any, task: Any, measured: Any) -> None:
    found = measured("rate", ours_a=[500.0], ours_b=[1200.0])
    asked = task("ours_a", "ours_b", better="less", kind="limit", value=1000)
    assert harness.verdicts.judge(asked, found).met is False


def test_cost_is_flat_where_no_log_costs_much_more_than_another(
    harness: Any, task: Any, measured: Any
) -> None:
    found = measured("rate", ours_a=[10, 20], ours_b=[14, 28], ours_c=[7, 14])
    verdict = harness.verdicts.judge(task("ours_a", "ours_b", "ours_c", kind="flat"), found)
    assert verdict.figure.median == 2


def test_speed_below_the_quality_asked_for_does_not_count(
    harness: Any, task: Any, measured: Any
) -> None:
    from dataclasses import replace

    asked = replace(task("ours", "peer", better="less", kind="limit", value=30), quality="ndcg")
    times = measured("rate", ours=[20.0], peer=[80.0])
    worse = harness.verdicts.judge(asked, times + measured("ndcg", ours=[0.10], peer=[0.14]))
    equal = harness.verdicts.judge(asked, times + measured("ndcg", ours=[0.14], peer=[0.14]))
    assert (worse.met, equal.met) == (False, True)
    assert "0.1000, wanted 0.1400" in worse.note


def test_what_was_not_measured_has_no_verdict_and_says_why(
    harness: Any, task: Any, measured: Any
) -> None:
    failed = harness.measurements.Measurement("t", "ours", "ours", 2, 1, "failed", "no such model")
    verdict = harness.verdicts.judge(task("ours", "peer"), [failed, *measured("rate", peer=[1.0])])
    assert (verdict.ours, verdict.figure, verdict.met) == (None, None, None)
    assert verdict.note == "ours: no such model"


def test_measurements_survive_their_file(harness: Any, measured: Any, tmp_path: Path) -> None:
    failed = harness.measurements.Measurement("t", "peer, b", "peer", 1, 1, "failed", "why, so")
    found = [*measured("rate", ours=[1.5, 2e6]), failed]
    harness.measurements.write(tmp_path / "t.csv", found)
    assert harness.measurements.read(tmp_path / "t.csv") == found
    assert harness.measurements.read(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04567, "0.0457"), (6, "6"), (12.345, "12.3"), (953.67, "954"), (1_234_567, "1,230,000")],
)
def test_numbers_show_three_digits(harness: Any, value: float, text: str) -> None:
    assert harness.tables.short(value) == text


def test_the_table_has_a_line_a_task(harness: Any, task: Any, measured: Any) -> None:
    found = measured("rate", ours=[60, 66], peer=[10, 10])
    verdict = harness.verdicts.judge(task("ours", "peer", value=6), found)
    line = harness.tables.verdicts([verdict]).splitlines()[-1]
    assert line == "| t | 63 | 10 (peer) | 6.3x (6 to 6.6) | 6x or more | yes | what |"


def test_beside_each_peer_stands_how_many_times_as_good_ours_is(
    harness: Any, task: Any, measured: Any
) -> None:
    found = measured("rate", ours=[60, 66], peer_a=[10, 10], peer_b=[30, 33])
    lines = harness.tables.contestants([task("ours", "peer_a", "peer_b")], {"t": found})
    ends = [line.split("|")[-2].strip() for line in lines.splitlines()[2:]]
    assert ends == ["", "6.3x", "2x"]


def test_tasks_are_named_whole_or_by_their_beginning(benchmark_module: Import) -> None:
    selected = benchmark_module("harness.programme").selected
    known = ("train-bpr-1", "train-bpr-2", "top", "top-gmf")
    assert selected(["train-bpr"], known=known) == ["train-bpr-1", "train-bpr-2"]
    assert selected([], known=known) == list(known)
    with pytest.raises(ValueError, match="unknown task 'trian'"):
        selected(["trian"], known=known)


def test_operations_are_counted_as_on_paper(benchmark_module: Import) -> None:
    operations = benchmark_module("harness.operations")
    # 64 to 32 to 16 and its weights: 2 (64 * 32 + 32 * 16 + 16) operations a pair.
    assert operations.upper((64, 32, 16)) == 5152
    assert operations.ranking(64, (), 3).operations == 3 * 128
    assert operations.ranking(64, (), 3, share=0.0).operations == 128
    roof = operations.Roof(operations=1280, bytes=1e9)
    assert roof.bound(operations.ranking(64, (), 1)) == 10
