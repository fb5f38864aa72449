"""`nmtr compare`: finished runs over the same users, in words and figures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmtr.cli import run as nmtr
from nmtr.cli import show
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
    assert models["nmtr-gmf"]["seed_sd"] == pytest.approx(np.std(means, ddof=1))
    assert models["ease"]["seed_sd"] is None
    folders = [str(runs[each]) for each in ("first", "second")]
    assert found["runs"] == {"nmtr-gmf": folders, "ease": [str(runs["ease"])]}
    assert f"nmtr-gmf: 2 seeds, averaged for each user: {', '.join(folders)}" in says(
        "compare", *runs.values()
    )


def test_no_figure_is_cut_on_a_narrow_screen(
    runs: dict[str, Path], says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for width in (80, 200):
        monkeypatch.setattr(show, "console", show.Output(highlight=False, width=width))
        monkeypatch.setattr("nmtr.cli.compare.console", show.console)
        shown.append(says("compare", *runs.values()))
        assert "…" not in shown[-1]
    figures = [re.findall(r"[+-]?\d*\.\d+%?", each) for each in shown]
    assert figures[0] == figures[1]


def test_it_says_in_words_who_beats_whom(runs: dict[str, Path], says: Says) -> None:
    shown = says("compare", runs["first"], runs["ease"], "--against", "popularity")
    assert "ndcg@100, slice all, validation" in shown
    assert shown.count("popularity by") + shown.count("be told apart") == 3


def test_runs_of_one_model_with_other_settings_are_named_by_their_folders(
    runs: dict[str, Path], finished: Run, tmp_path: Path, says: Says
) -> None:
    execute(finished.data, Settings(model="ease", options={"ridge": 5.0}), tmp_path / "other")
    both = (runs["ease"], tmp_path / "other")
    found = json.loads(says("compare", *both, "--json"))
    names = {each["name"] for each in found["comparison"]["models"]}
    named = [f"ease ({each})" for each in both]
    assert names == {"popularity", "replay", *named}
    for against in (named[0], both[0]):
        pairs = json.loads(says("compare", *both, "--against", against, "--json"))
        for pair in pairs["comparison"]["pairs"]:
            assert named[0] in (pair["first"], pair["second"])


def test_the_test_comes_before_validation_where_all_have_it(
    runs: dict[str, Path], tmp_path: Path, says: Says
) -> None:
    copies = [tmp_path / name for name in ("first", "ease")]
    for each in copies:
        shutil.copytree(runs[each.name], each)
        says("evaluate", each, "--test", "--why", "a test", "--reads", tmp_path / "reads.md")
    found = json.loads(says("compare", *copies, "--json"))
    assert found["ranked"] == "time"
    assert found["note"] == "They may be compared on validation too: --on."
    mixed = says("compare", copies[0], runs["ease"])
    assert "This is validation: no protocol's test was read in all of them" in mixed
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
        ([first, tmp_path / "other"], f"other was trained on other data than {first}"),
        ([first, f"{first}/"], f"{first} and {first} are one run twice"),
        ([first, "--on", "last"], "has no vectors-last.npz"),
        ([first, "--on", "test"], "unknown ranking to compare on 'test'; one of validation, "),
        ([first, "--metric", "auc"], "metric 'auc': expected hr|ndcg"),
        ([first, "--slice", "old"], "unknown slice 'old'"),
        ([first, "--against", "bpr"], "unknown model to compare with 'bpr'; one of popularity"),
    ):
        assert message in says("compare", *words, code=2)


def test_runs_that_were_validated_otherwise_are_refused_and_both_named(
    tmp_path: Path, says: Says, prepared: Callable[..., Interactions]
) -> None:
    data = prepared("random")
    ease = Settings(model="ease", protocol="as-published")
    execute(data, ease, tmp_path / "all")
    execute(data, replace(ease, protocol="leak-free"), tmp_path / "freed")
    execute(data, replace(ease, validation_users=40), tmp_path / "few")
    refused = says("compare", tmp_path / "all", tmp_path / "freed", code=2)
    assert "freed was validated under another protocol than" in refused
    assert "(leak-free, not as-published)" in refused
    refused = says("compare", tmp_path / "all", tmp_path / "few", code=2)
    assert f"few and {tmp_path / 'all'} were ranked for other users (40 and" in refused


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
