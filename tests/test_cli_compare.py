"""`nmtr compare`: finished runs over the same users, in words and figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.evaluation.comparison import compare
from nmtr.evaluation.vectors import load_vectors
from nmtr.training.run import Run, Settings, execute

Says = Callable[..., str]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    def call(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        found = nmtr([str(each) for each in words])
        out, err = capsys.readouterr()
        assert found == code, out + err
        assert "Traceback" not in out + err
        return " ".join((out if code == 0 else err).split())

    return call


@pytest.fixture(scope="module")
def runs(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The finished NMTR, a second seed of it, and EASE, all on one data set."""
    folder = tmp_path_factory.mktemp("compare")
    assert finished.path
    shutil.copytree(finished.path, folder / "first")
    training = finished.settings.training
    other = type(finished.settings)(
        **{**vars(finished.settings), "training": type(training)(**{**vars(training), "seed": 5})}
    )
    execute(finished.data, other, folder / "second")
    execute(finished.data, Settings(model="ease"), folder / "ease")
    return {each: folder / each for each in ("first", "second", "ease")}


def test_training_leaves_the_chosen_model_s_values_on_validation(
    runs: dict[str, Path], says: Says
) -> None:
    report = json.loads((runs["first"] / "report-validation.json").read_text())
    epochs = [
        json.loads(line) for line in (runs["first"] / "metrics.jsonl").read_text().splitlines()
    ]
    best = max(each["ndcg@100"] for each in epochs if each["phase"] == "selection")
    assert report["models"]["nmtr-gmf"]["all"]["ndcg@100"]["mean"] == pytest.approx(best)
    assert report["fold"] == "validation"
    for name in ("first", "ease"):  # a model that counts has no epochs, but values
        shown = json.loads(says("evaluate", runs[name], "--json"))
        own = "nmtr-gmf" if name == "first" else "ease"
        assert set(shown["models"]) == {own, "popularity", "replay"}
        assert "chose nothing" not in says("evaluate", runs[name])


def test_seeds_are_one_model_and_popularity_and_replay_stand_beside(
    runs: dict[str, Path], says: Says
) -> None:
    found = json.loads(says("compare", *runs.values(), "--json"))
    assert found["ranked"] == "validation"
    models = {each["name"]: each for each in found["comparison"]["models"]}
    assert set(models) == {"popularity", "replay", "nmtr-gmf", "ease"}
    values = [load_vectors(runs[each] / "vectors-validation.npz") for each in ("first", "second")]
    means = [each["nmtr-gmf"].values["all"]["ndcg@100"].mean() for each in values]
    assert models["nmtr-gmf"]["seeds"] == pytest.approx(means)
    assert models["nmtr-gmf"]["mean"] == pytest.approx(np.mean(means))
    order = [each["mean"] for each in found["comparison"]["models"]]
    assert order == sorted(order, reverse=True)
    assert len(found["comparison"]["pairs"]) == 6


def test_it_says_in_words_who_beats_whom(runs: dict[str, Path], says: Says) -> None:
    shown = says("compare", runs["first"], runs["ease"], "--against", "popularity")
    assert "ndcg@100, slice all, validation" in shown
    assert shown.count("popularity by") + shown.count("be told apart") == 3


def test_runs_of_one_model_with_other_settings_are_named_by_their_folders(
    runs: dict[str, Path], finished: Run, tmp_path: Path, says: Says
) -> None:
    execute(finished.data, Settings(model="ease", options={"ridge": 5.0}), tmp_path / "other")
    found = json.loads(says("compare", runs["ease"], tmp_path / "other", "--json"))
    names = {each["name"] for each in found["comparison"]["models"]}
    assert names == {"popularity", "replay", str(runs["ease"]), str(tmp_path / "other")}


def test_the_test_comes_before_validation_where_all_have_it(
    runs: dict[str, Path], tmp_path: Path, says: Says
) -> None:
    copies = [tmp_path / name for name in ("first", "ease")]
    for each in copies:
        shutil.copytree(runs[each.name], each)
        says("evaluate", each, "--test", "--why", "a test", "--reads", tmp_path / "reads.md")
    assert json.loads(says("compare", *copies, "--json"))["ranked"] == "time"
    assert "validation" in says("compare", *copies, "--on", "validation")
    refused = says("compare", copies[0], runs["ease"], "--on", "time", code=2)
    assert "has no vectors-time.npz" in refused
    assert "--test --protocol time" in refused


def test_what_does_not_compare_is_refused_and_named(
    runs: dict[str, Path], tmp_path: Path, says: Says, prepared: Callable[..., Interactions]
) -> None:
    other = Settings(model="ease", protocol="as-published")
    execute(prepared("random"), other, tmp_path / "other")
    first = runs["first"]
    for words, message in (
        ([], "name at least one finished run"),
        ([tmp_path], "is no run"),
        ([first, tmp_path / "other"], "was trained on other data than"),
        ([first, "--metric", "auc"], "no metric 'auc'; one of hr@10"),
        ([first, "--slice", "old"], "unknown slice 'old'"),
        ([first, "--against", "bpr"], "no model 'bpr' to compare with; one of popularity"),
    ):
        assert message in says("compare", *words, code=2)


def test_a_clear_difference_and_none() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    values = {
        "worse": [base],
        "better": [base + 0.1 + rng.normal(0, 0.05, 400)],
        "same": [rng.permutation(base)],
    }
    found = compare(values)
    assert found.models[0].name == "better"
    said = [each.sentence for each in found.pairs]
    assert sum("better beats" in each for each in said) == 2
    assert any("cannot be told apart" in each for each in said)
