"""Tuning chooses on validation alone, and what it chose is a run's settings."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.data.split import split
from nmtr.errors import DamagedError, NmtrError, UsageError
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.run import Settings
from nmtr.training.search import Budget
from nmtr.training.study import Trial
from nmtr.training.trainer import Training
from nmtr.training.tune import tune
from nmtr.training.tuned import Found

Prepared = Callable[..., Interactions]
ONCE = Budget(3, widen=False)


def small(model: str = "nmtr-gmf", **training: Any) -> Settings:
    """Settings that train in a moment, and repeat to the bit."""
    options = {} if model in ("ease", "itemknn") else {"embedding": 4}
    how = {"epochs": 2, "threads": 1, "calibrate": False, **training}
    return Settings(model, "", options, Training(**how))


def chosen(found: Found) -> Trial:
    assert found.best
    return found.best


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tuned(timed: Interactions, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """A study of a few trials of nmtr-gmf; not to be altered."""
    path = tmp_path_factory.mktemp("studies") / "study"
    return path, tune(timed, small(epochs=3), path, budget=ONCE)


@pytest.mark.parametrize("model", ["nmtr-gmf", "bpr", "mc-gmf", "lightgcn"])
def test_the_winner_s_settings_train_to_the_same_value_at_the_same_epoch(
    timed: Interactions, tmp_path: Path, model: str
) -> None:
    found = tune(timed, small(model), tmp_path / "study", budget=ONCE)
    config = str(tmp_path / "study" / "best.toml")
    words = ["train", str(timed.path), "--config", config, "--out", str(tmp_path / "run")]
    assert nmtr(words) == 0
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(each) for each in text.splitlines()]
    selection = [each["ndcg@100"] for each in lines if each["phase"] == "selection"]
    best = chosen(found)
    assert max(selection) == best.value == selection[best.epoch - 1]
    assert selection == [each["ndcg@100"] for each in best.epochs]
    assert best.value == max(each.value or 0.0 for each in found.trials)


@pytest.mark.parametrize("model", ["ease", "itemknn", "ials"])
def test_models_that_count_are_tuned_by_what_they_rank_on_validation(
    timed: Interactions, tmp_path: Path, model: str
) -> None:
    found = tune(timed, small(model), tmp_path / "study", budget=ONCE)
    settings = tomllib.loads((tmp_path / "study" / "best.toml").read_text())
    torch.manual_seed(0)
    shape = Shape(timed.n_users, timed.n_items, timed.behaviors)
    counted = make(model, settings["options"], shape)
    parts = split(timed, "time", fold="validation")
    counted.learn(parts.train)
    values = per_user(ranks(counted, parts.evaluation), parts.evaluation.truth.indptr)
    assert chosen(found).value == values["ndcg@100"].mean()
    assert (chosen(found).epoch, len(chosen(found).epochs)) == (0, 1)


def test_a_study_s_folder_tells_what_was_tried_and_spent(tuned: tuple[Path, Found]) -> None:
    path, found = tuned
    names = {each.name for each in path.iterdir() if not each.name.startswith(".")}
    assert names == {"study.db", "trials.csv", "study.json", "best.toml"}
    with (path / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["outcome"] for row in rows] == ["complete"] * 3
    assert (rows[0]["l2"], rows[0]["lambdas"], rows[0]["batch_size"]) == ("0.0", "", "2048")
    for row, trial in zip(rows, found.trials, strict=True):
        by_epoch = [float(each) for each in row["ndcg@100 by epoch"].split()]
        assert by_epoch == [pytest.approx(each["ndcg@100"], abs=1e-5) for each in trial.epochs]
        assert float(row["ndcg@100"]) == max(by_epoch) == by_epoch[int(row["epoch"]) - 1]
    told = json.loads((path / "study.json").read_text())
    assert told["spent"]["trials"] == 3
    assert told["spent"]["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in rows))
    assert [(each["trials"], each["minutes"], each["widen"]) for each in told["sessions"]] == [
        (3, None, False)
    ]
    assert told["rounds"][0]["space"]["l2"] == "0.0001 to 0.1, log"
    assert told["best"]["value"] == chosen(found).value


def test_an_option_that_is_set_is_not_searched(timed: Interactions, tmp_path: Path) -> None:
    settings = small("nmtr-mlp", batch_size=1024, epochs=1)
    fixed = ("batch_size", "layers", "lambdas")
    found = tune(timed, settings, tmp_path / "study", fixed=fixed, budget=ONCE)
    assert {*fixed, "mlp_init", "init_std"}.isdisjoint(found.trials[1].options)
    assert set(found.options) == {"l2", "learning_rate", "negatives", "mlp_l2", "mlp_rate"}
    told = tomllib.loads((tmp_path / "study" / "best.toml").read_text())
    assert told["training"]["batch_size"] == 1024


def test_validation_s_users_may_be_fewer(timed: Interactions, tmp_path: Path) -> None:
    few = replace(small("ease"), validation_users=5)
    found = tune(timed, few, tmp_path / "study", budget=Budget(1, widen=False))
    share = chosen(found).epochs[0]["hr@100"] * 5
    assert share == pytest.approx(round(share))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (small(learning_rate=0.06), "its learning_rate is 0.05, not 0.06"),
        (small(select="hr@10"), r"its metric is ndcg@100, not hr@10"),
        (replace(small(), model="nmtr-mlp"), "its model is nmtr-gmf, not nmtr-mlp"),
        (replace(small(), options={"embedding": 5}), "its embedding is 4, not 5"),
    ],
)
def test_a_study_is_not_taken_up_for_something_else(
    timed: Interactions, tuned: tuple[Path, Found], settings: Settings, message: str
) -> None:
    path, _ = tuned
    before = (path / "study.db").read_bytes()
    changed = replace(settings, training=replace(settings.training, epochs=3))
    with pytest.raises(UsageError, match=message):
        tune(timed, changed, path, budget=ONCE)
    assert (path / "study.db").read_bytes() == before


def test_nor_for_other_data_or_another_space(
    timed: Interactions, prepared: Prepared, tuned: tuple[Path, Found]
) -> None:
    path, _ = tuned
    others = prepared("time:0.8")
    fingerprints = f"{timed.fingerprint()}, not {others.fingerprint()}"
    with pytest.raises(UsageError, match=f"its data set's fingerprint is {fingerprints}"):
        tune(others, small(epochs=3), path, budget=ONCE)
    with pytest.raises(UsageError, match=r"its l2 is 0.0001 to 0.1, log, not None"):
        tune(timed, small(epochs=3), path, fixed=["l2"], budget=ONCE)
    with pytest.raises(UsageError, match="its protocol is time, not last"):
        tune(prepared("last"), replace(small(epochs=3), protocol="last"), path, budget=ONCE)


def test_a_folder_of_something_else_is_left_as_it_is(timed: Interactions, tmp_path: Path) -> None:
    assert timed.path
    before = sorted(timed.path.iterdir())
    with pytest.raises(UsageError, match="holds something else"):
        tune(timed, small(), timed.path, budget=ONCE)
    assert sorted(timed.path.iterdir()) == before
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; name a folder for the study"):
        tune(timed, small(), tmp_path / "file", budget=ONCE)


def test_a_damaged_study_is_named(timed: Interactions, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database, but long enough to be read as one" * 99)
    with pytest.raises(DamagedError, match=r"study\.db cannot be read as a study"):
        tune(timed, small(), tmp_path, budget=ONCE)


@pytest.mark.parametrize(
    ("settings", "fixed", "message"),
    [
        (small(select="none"), [], "select=none leaves validation out"),
        (Settings("popularity"), [], "popularity has no options to tune"),
        (small("ease"), ["ridge", "weights"], r"ease is tuned by \(ridge, weights\)"),
        (small(select="auc@10"), [], "ndcg"),
        (replace(small(), protocol="random"), [], "one of as-published"),
    ],
)
def test_what_cannot_be_tuned_leaves_no_folder(
    timed: Interactions, tmp_path: Path, settings: Settings, fixed: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tune(timed, settings, tmp_path / "study", fixed=fixed, budget=ONCE)
    assert not (tmp_path / "study").exists()


def test_trainings_that_diverge_are_told_and_where_all_do_that_is_an_error(
    timed: Interactions, tmp_path: Path
) -> None:
    settings = small("bpr", learning_rate=1e20, epochs=3)
    with pytest.raises(NmtrError, match=r"none of 2 trials came to an end: .*training diverged"):
        tune(
            timed, settings, tmp_path / "study",
            fixed=["learning_rate"], budget=Budget(2, widen=False),
        )  # fmt: skip
    assert "training diverged" in (tmp_path / "study" / "trials.csv").read_text()
    found = tune(timed, replace(settings, options={"embedding": 3}), tmp_path / "free", budget=ONCE)
    assert [each.outcome for each in found.trials] == ["failed", "complete", "complete"]


def _finished(path: Path) -> int:
    """How many trials of a study that another process makes are complete."""
    if not (path / "study.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{path / 'study.db'}?mode=ro", uri=True)) as study:
        (count,) = study.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
    return int(count)


def test_a_killed_tune_command_goes_on_when_it_is_given_again(
    timed: Interactions, tmp_path: Path
) -> None:
    options = ["embedding=4", "epochs=8", "patience=8", "threads=1", "batch_size=128"]
    words = ["tune", str(timed.path), "--trials", "4", "--no-widen"]
    words += [each for option in options for each in ("-s", option)]
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    process = subprocess.Popen(
        [sys.executable, "-m", "nmtr", *words, "--out", str(killed)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while _finished(killed) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "best.toml").exists()
    before = _finished(killed)
    assert nmtr([*words, "--out", str(straight)]) == 0
    assert nmtr([*words, "--out", str(killed)]) == 0

    def rows(path: Path) -> list[dict[str, str]]:
        with (path / "trials.csv").open() as stream:
            return [{**row, "seconds": "", "trial": ""} for row in csv.DictReader(stream)]

    done = [row for row in rows(killed) if row["outcome"] != "killed"]
    assert done == rows(straight)
    assert len(rows(killed)) <= 5
    assert 2 <= before <= 4
    told = [tomllib.loads((path / "best.toml").read_text()) for path in (killed, straight)]
    assert told[0] == told[1]
    assert len(json.loads((killed / "study.json").read_text())["sessions"]) == 2
