"""What the trainer and a run owe to models that learn otherwise than NMTR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Records
from nmtr.errors import DataError, NmtrError, UsageError
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.run import Settings, execute, open_run
from nmtr.training.trainer import Training, batches, train

SWEPT = ("bpr", "mc-bpr")
BATCHED = ("cmf", "mc-gmf", "neumf", "lightgcn", "nmtr-graph", "nmtr-whole")
Small = Callable[..., Settings]


@pytest.fixture(scope="module")
def records(timed: Interactions) -> Records:
    return timed.records()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new(records: Records, name: str) -> Model:
    torch.manual_seed(0)
    more: dict[str, dict[str, Any]] = {"neumf": {"pretrain": 2}, "nmtr-graph": {"hide": 0.3}}
    options: dict[str, Any] = {"embedding": 8} | more.get(name, {})
    return make(name, options, Shape(records.n_users, records.n_items, records.behaviors))


@pytest.mark.parametrize("name", [*SWEPT, *BATCHED])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(
    records: Records, tmp_path: Path, name: str
) -> None:
    how: dict[str, Any] = {"phase": "refit", "checkpoint_seconds": 0}
    path = tmp_path / "checkpoint.safetensors"
    config = Training(batch_size=1024)
    train(new(records, name), records, config, epochs=1, checkpoint=path, **how)
    torch.manual_seed(12345)
    resumed, straight = new(records, name), new(records, name)
    after = train(resumed, records, config, epochs=3, checkpoint=path, **how)
    before = train(straight, records, config, epochs=3, **how)
    one, other = resumed.state_dict(), straight.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert [each["loss"] for each in after.history] == [each["loss"] for each in before.history]


@pytest.mark.parametrize("name", SWEPT)
def test_sweeps_lower_the_loss_and_a_seed_decides_them(records: Records, name: str) -> None:
    def losses(seed: int) -> list[float]:
        how = Training(seed=seed)
        history = train(new(records, name), records, how, phase="refit", epochs=4).history
        return [each["loss"] for each in history]

    assert losses(0)[-1] < 0.97 * losses(0)[0]
    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


@pytest.mark.parametrize("name", SWEPT)
def test_a_sweep_that_diverges_says_so(records: Records, name: str) -> None:
    with pytest.raises(NmtrError, match=r"diverged.*lower learning_rate \(it is 1e\+20\)"):
        train(new(records, name), records, Training(learning_rate=1e20), phase="refit", epochs=9)


@pytest.mark.parametrize("name", ["bpr", "gmf"])
def test_no_target_record_is_nothing_to_learn_from(records: Records, name: str) -> None:
    empty = CSR(np.zeros(records.n_users + 1, np.int64), np.zeros(0, np.int32), records.n_items)
    without = Records(records.behaviors, (*records.sets[:-1], empty))
    with pytest.raises(DataError, match="no record is left"):
        train(new(records, name), without, Training(), phase="refit", epochs=1)


@pytest.mark.parametrize(("name", "count"), [("gmf", 5), ("mc-gmf", 5), ("cmf", 3)])
def test_of_counts_for_each_behaviour_a_model_takes_those_that_it_learns(
    records: Records, name: str, count: int
) -> None:
    model = new(records, name)
    config = Training(negatives=(3, 4, 5), batch_size=64)
    batch = next(batches(model, records.only(model.learns), config).epoch(0))
    positive = batch.target[:, 0] == 1
    negative = (batch.target[:, 0] == 0) & (batch.weight[:, 0] == 1)
    assert int(negative.sum()) == count * int(positive.sum())


def test_no_negative_for_the_only_behaviour_that_is_learned_is_an_error(records: Records) -> None:
    for name in ("gmf", "bpr"):
        model = new(records, name)
        with pytest.raises(UsageError, match="negatives: expected at least 1 for buy"):
            train(model, records, Training(negatives=(1, 1, 0)), phase="refit", epochs=1)


@pytest.mark.parametrize(("name", "calibrated"), [("gmf", True), ("cmf", True), ("bpr", False)])
def test_only_log_odds_of_records_become_probabilities(
    timed: Interactions, small: Small, tmp_path: Path, name: str, calibrated: bool
) -> None:
    settings = replace(small(name, epochs=1, select="none"), options={"embedding": 4})
    execute(timed, settings, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert (run.calibration is not None) == calibrated
    assert run.epochs == 1


def test_a_run_s_settings_say_that_a_sweep_is_plain_sgd(timed: Interactions, small: Small) -> None:
    assert execute(timed, small("bpr", epochs=1)).settings.training.optimizer == "sgd"
    assert execute(timed, small("gmf", epochs=1)).settings.training.optimizer == "adagrad"


def test_validation_chooses_no_epoch_of_the_pre_training(records: Records) -> None:
    falling = iter(range(100, 0, -1))  # every epoch is worse than the one before
    found = train(
        new(records, "neumf"), records, Training(batch_size=4096, select="hr@10", patience=2),
        phase="selection", epochs=20, measure=lambda _: {"hr@10": float(next(falling))},
    )  # fmt: skip
    assert (found.best_epoch, found.epochs_done) == (3, 5)


def test_pre_training_alone_is_refused(timed: Interactions) -> None:
    settings = Settings("neumf", options={"pretrain": 4}, training=Training(epochs=4))
    with pytest.raises(UsageError, match="epochs: expected more than the 4 that only prepare"):
        execute(timed, settings)
