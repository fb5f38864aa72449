"""Processes in turn: who fails is out, and a process that takes too long is ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def contest(
    benchmark_module: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Any:
    module = benchmark_module("harness.contest")
    monkeypatch.setattr(module, "WORK", tmp_path)
    return module


def test_contestants_run_in_turn_and_who_fails_is_not_asked_again(
    contest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(each: Any, *, box: float) -> Mapping[str, float | str]:
        asked.append(each.name)
        return {"failed": "broken"} if each.name == "bad" else {"value": 1.0}

    monkeypatch.setattr(contest, "run", run)
    names = ("ours", "bad", "good")
    players = [contest.Contestant(name, "ours" if name == "ours" else "peer") for name in names]
    players.append(contest.Contestant("first", "peer", once=True))
    found = contest.play("t", players, rounds=2, box=1.0, say=lambda line: None)
    assert asked == ["ours", "bad", "good", "first", "ours", "good"]
    assert [(each.contestant, each.value) for each in found if each.metric == "failed"] == [
        ("bad", "broken")
    ]


def test_peers_are_spared_where_ours_has_failed(
    contest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "run", lambda each, box: {"failed": "no such model"})
    players = [contest.Contestant("ours"), contest.Contestant("peer", "peer")]
    found = contest.play("t", players, rounds=3, box=1.0, say=lambda line: None)
    assert [each.contestant for each in found] == ["ours"]


def test_a_process_is_timed_as_a_whole(contest: Any) -> None:
    found = contest.run(contest.Contestant("c", command=(sys.executable, "-c", "pass")), box=60)
    assert set(found) == {"process_seconds"}


def test_a_process_that_fails_says_its_last_word(contest: Any) -> None:
    command = (sys.executable, "-c", "raise SystemExit('out of luck')")
    assert contest.run(contest.Contestant("c", command=command), box=60) == {
        "failed": "out of luck"
    }


def test_a_process_is_ended_when_its_box_is_full(contest: Any) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    assert contest.run(contest.Contestant("c", command=command), box=0.2) == {
        "failed": "not done in 0 s"
    }
