"""A model chosen by validation where none is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.errors import NmtrError
from nmtr.training import choice
from nmtr.training.choice import Tried, choose
from nmtr.training.run import open_run
from nmtr.training.settings import Settings
from nmtr.training.trainer import Training

QUICK = Settings(training=Training(epochs=2, batch_size=1024), validation_users=100)


def test_the_best_on_validation_is_chosen(prepared: Callable[..., Interactions]) -> None:
    data, told = prepared("random"), list[Tried]()
    found = choose(data, QUICK, 5, tell=told.append)
    assert {each.model for each in found.tried} == {name for name, _ in choice.candidates(data, "")}
    assert sorted(told, key=lambda each: each.model) == sorted(found.tried, key=lambda x: x.model)
    values = [each.value or 0 for each in found.tried]
    assert values == sorted(values, reverse=True)
    best = found.tried[0]
    assert (found.settings.model, found.settings.options) == (best.model, best.options)
    assert found.settings.training == QUICK.training
    assert found.in_words().startswith(f"{best.model} is chosen: ndcg@100 {best.value:.4f} on 100 ")


def test_where_there_are_times_the_funnel_looks_at_them(
    prepared: Callable[..., Interactions], timed: Interactions
) -> None:
    found = {each.model: each for each in choose(timed, QUICK, 5).tried}
    assert found["nmtr-funnel"].options["recency"] is True
    assert found["nmtr-funnel"].value
    plain = dict(choice.candidates(prepared("random"), "discovery"))
    assert "recency" not in plain["nmtr-funnel"]
    assert plain["nmtr-funnel"]["counts"] is False


def test_a_spent_budget_ends_it_but_not_before_one_was_tried(
    prepared: Callable[..., Interactions],
) -> None:
    found = choose(prepared("random"), QUICK, 1e-6)
    assert [each.model for each in found.tried] == ["popularity"]


def test_a_training_under_way_keeps_its_best_epoch(
    prepared: Callable[..., Interactions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "candidates", lambda data, protocol: [("nmtr-gmf", {})])
    long = Settings(training=Training(epochs=10_000, patience=10_000, batch_size=1024))
    found = choose(prepared("random"), long, 0.02)
    assert found.tried[0].value
    assert found.tried[0].said.startswith("the budget ended after epoch ")


def test_nothing_that_comes_to_an_end_is_an_error(
    prepared: Callable[..., Interactions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "candidates", lambda data, protocol: [("ials", {"ridge": -1.0})])
    with pytest.raises(NmtrError, match=r"no model came to an end on validation: .*ridge"):
        choose(prepared("random"), QUICK, 1)


def test_train_without_a_model_says_what_it_picked(
    prepared: Callable[..., Interactions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = prepared("random"), tmp_path / "run"
    words = ["train", str(data.path), "--out", str(out), "--budget", "2s"]
    words += ["--protocol", "as-published"]
    assert nmtr([*words, "-s", "epochs=2", "-s", "validation_users=50"]) == 0
    said = capsys.readouterr().out
    assert "No model is named: validation chooses" in said
    run = open_run(out)
    assert f"{run.settings.model} is chosen: ndcg@100" in said
    assert run.settings.training.epochs == 2
    tried = json.loads((out / "choice.json").read_text())["tried"]
    assert tried[0]["model"] == run.settings.model
