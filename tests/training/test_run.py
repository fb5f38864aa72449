"""A run's folder says all about it, repeats it to the bit, and survives a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.training.run import Run, Settings, execute, open_run, read_settings

Small = Callable[..., Settings]
Prepared = Callable[..., Interactions]


def lines(path: Path) -> list[dict[str, float | str]]:
    return [json.loads(each) for each in (path / "metrics.jsonl").read_text().splitlines()]


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def test_a_run_folder_holds_settings_epochs_weights_and_calibration(finished: Run) -> None:
    assert finished.path
    names = {each.name for each in finished.path.iterdir()}
    assert names == {
        "config.toml", "metrics.jsonl", "model.safetensors", "calibration.json",
        "reliability.json", "report-validation.json", "vectors-validation.npz",
    }  # fmt: skip
    config = tomllib.loads((finished.path / "config.toml").read_text())
    assert config["options"] | {"embedding": 8, "cascade": "probability"} == config["options"]
    assert (config["protocol"], config["training"]["learning_rate"]) == ("time", 0.05)
    phases = [each["phase"] for each in lines(finished.path)]
    assert list(dict.fromkeys(phases)) == ["selection", "calibration", "refit"]
    selection = [each for each in lines(finished.path) if each["phase"] == "selection"]
    best = max(selection, key=lambda line: line["ndcg@100"])
    assert best["epoch"] == phases.count("refit") == finished.epochs


def test_an_opened_run_scores_as_the_one_in_memory(timed: Interactions, small: Small) -> None:
    path = Path(str(timed.path)).parent / "scores"
    made = execute(timed, small("nmtr-neumf", epochs=1), path)
    opened = open_run(path)
    histories = timed.records().histories(torch.arange(5).numpy())
    made.model.eval()
    with torch.inference_mode():
        one, other = (
            each.model.score_behaviors(each.model.encode(histories), histories)
            for each in (made, opened)
        )
    assert torch.equal(one, other)
    assert made.calibration == opened.calibration


def test_config_toml_repeats_a_run_to_the_bit(finished: Run, tmp_path: Path) -> None:
    assert finished.path
    config = finished.path / "config.toml"
    assert nmtr(["train", "--config", str(config), "--out", str(tmp_path / "again")]) == 0
    for name in ("model.safetensors", "config.toml", "calibration.json"):
        assert (tmp_path / "again" / name).read_bytes() == (finished.path / name).read_bytes()


SLOW = """
import sys, time
from nmtr.cli import run
from nmtr.training import trainer
from nmtr.training.run import execute
save = trainer.save
trainer.save = lambda *what: (save(*what), time.sleep(0.3))  # long enough to be killed in
execute.__kwdefaults__["checkpoint_seconds"] = 0
sys.exit(run(sys.argv[1:]))
"""


def test_a_killed_train_command_goes_on_when_it_is_given_again(
    timed: Interactions, tmp_path: Path
) -> None:
    options = ["-s", "embedding=8", "-s", "epochs=10", "-s", "patience=10", "-s", "dropout=0.2"]
    words = ["train", str(timed.path), "--model", "nmtr-mlp", *options, "--out"]
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words, str(killed)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not any(killed.glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    with pytest.raises(UsageError, match=r"not finished; go on with `nmtr train .*--config"):
        open_run(killed)
    assert nmtr([*words, str(straight)]) == 0
    assert nmtr([*words, str(killed)]) == 0
    assert weights(killed) == weights(straight)
    assert not any(killed.glob("checkpoint-*"))
    told = [[(each["phase"], each["epoch"], each["loss"]) for each in lines(killed)]]
    assert told == [[(each["phase"], each["epoch"], each["loss"]) for each in lines(straight)]]


def test_an_unfinished_run_is_not_resumed_with_other_settings_or_data(
    timed: Interactions, small: Small, prepared: Prepared, tmp_path: Path
) -> None:
    execute(timed, small(epochs=1, select="none"), tmp_path / "run")
    run = tmp_path / "run"
    (run / "model.safetensors").rename(run / "checkpoint-refit.safetensors")  # as if killed
    with pytest.raises(UsageError, match="other settings or data"):
        execute(timed, small(epochs=2, select="none"), run)
    with pytest.raises(UsageError, match="other settings or data"):
        execute(prepared("time:0.8"), small(epochs=1, select="none"), run)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "nmtr-gmm"},
        {"options": {"embeding": 8}},
        {"options": {"unit": "mlp"}},
        {"options": {"lambdas": (1.0, 2.0)}},
        {"protocol": "random"},
        {"protocol": "discovery"},
        {"training": {"select": "auc@10"}},
        {"training": {"optimizer": "lbfgs"}},
        {"training": {"negatives": (1, 2)}},
    ],
)
def test_wrong_settings_leave_no_folder(
    timed: Interactions, small: Small, tmp_path: Path, wrong: dict[str, object]
) -> None:
    settings = small()
    training = wrong.pop("training", {})
    assert isinstance(training, dict)
    changed = replace(settings, training=replace(settings.training, **training), **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        execute(timed, changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_metric_may_be_named_in_capitals(timed: Interactions, small: Small) -> None:
    run = execute(timed, small(select="NDCG@10", epochs=1, calibrate=False))
    assert run.settings.training.select == "ndcg@10"


def test_select_none_trains_exactly_the_epochs(
    timed: Interactions, small: Small, tmp_path: Path
) -> None:
    execute(timed, small(select="none", epochs=4, calibrate=False), tmp_path / "run")
    assert [(each["phase"], each["epoch"]) for each in lines(tmp_path / "run")] == [
        ("refit", epoch) for epoch in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("holdout", "protocol", "behaviors"),
    [
        ("time:0.9", "time", ("view", "cart", "buy")),
        ("last", "last", ("view", "cart", "buy")),
        ("random", "as-published", ("view", "cart", "buy")),
        ("random", "discovery", ("cart", "buy")),  # every buy has a view, a one-click one no cart
        ("random", "leak-free", ("view", "cart", "buy")),
        ("time:0.9", "time", ("buy",)),
    ],
)
def test_every_protocol_trains_and_ranks(
    prepared: Prepared, small: Small, holdout: str, protocol: str, behaviors: tuple[str, ...]
) -> None:
    run = execute(prepared(holdout, behaviors), small(protocol=protocol, epochs=1))
    assert run.split().protocol == protocol
    assert len(run.split().evaluation.users) > 0


@pytest.mark.parametrize("model", ["popularity", "replay"])
def test_models_that_count_are_runs_too(
    timed: Interactions, small: Small, tmp_path: Path, model: str
) -> None:
    execute(timed, small(model), tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert (run.epochs, run.calibration, lines(tmp_path / "run")) == (0, None, [])
    counts = run.split().train.target.column_counts()
    assert run.model.state_dict()["counts"][-1].tolist() == counts.tolist()


def test_validation_users_limit_who_is_ranked(timed: Interactions, small: Small) -> None:
    from nmtr.training.run import sample_users

    evaluation = execute(timed, small("popularity")).split(fold="validation").evaluation
    part = sample_users(timed, evaluation, 7)
    assert len(part.users) == len(part.histories) == part.truth.n_rows == 7
    rows = [evaluation.users.tolist().index(user) for user in part.users]
    assert [part.truth.row(n).tolist() for n in range(7)] == [
        evaluation.truth.row(row).tolist() for row in rows
    ]
    assert len(part.in_funnel) == part.truth.nnz


@pytest.mark.parametrize(
    "text",
    ["model = ", "training = 3", "options = 'x'", "modle = 'nmtr'", "validation_users = -1"],
)
def test_a_bad_settings_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=r"bad\.toml"):
        read_settings(tmp_path / "bad.toml")
