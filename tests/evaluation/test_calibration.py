"""Probabilities are the simulated shop's, and the correction for sampling is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR, Histories
from nmtr.data.simulator import SimulatorConfig, Truth, simulate
from nmtr.evaluation.calibration import (
    Calibration,
    _logistic,
    _solve_offset,
    held_cells,
    log_odds,
    without_held,
)
from nmtr.training.run import Run, Settings, execute
from nmtr.training.trainer import Training

BEHAVIORS = ("view", "cart", "buy")
Floats = npt.NDArray[np.floating]
Prepared = Callable[..., Interactions]


def calibration_error(given: Floats, true: Floats, bins: int = 20) -> float:
    """Expected calibration error over bins of equally many pairs, in order of what was given."""
    order = np.argsort(given, kind="stable")
    parts = zip(np.array_split(given[order], bins), np.array_split(true[order], bins), strict=True)
    return sum(len(p) * abs(float(p.mean() - t.mean())) for p, t in parts) / len(given)


def probabilities(run: Run) -> Floats:
    """(M, R, N) of every user and item."""
    assert run.calibration
    histories = run.split().train.histories(np.arange(run.data.n_users))
    with torch.inference_mode():
        scores = run.model.score_behaviors(run.model.encode(histories), histories)
        return np.asarray(run.calibration.probabilities(scores, histories))


class Calibrated:
    """A model of the simulator's default shop, and the truth about every pair before the cut."""

    def __init__(self, folder: Path) -> None:
        simulate(SimulatorConfig(), folder)
        log = read_events([folder / "events-*.parquet"], ReadOptions(behaviors=BEHAVIORS))
        self.data = prepare(log, behaviors=BEHAVIORS, holdout="time:0.9")
        self.run = execute(self.data, Settings("nmtr-gmf", training=Training(epochs=10)))
        truth = Truth.load(folder / "truth")
        users = np.searchsorted(truth.user_ids, self.data.users.ids.to_numpy())
        items = np.searchsorted(truth.item_ids, self.data.items.ids.to_numpy())
        window = {"start": truth.start, "end": self.data.holdout["cut"]}
        self.true = truth.probabilities(users, **window)[:, :, items]
        self.given = probabilities(self.run)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return Calibrated(tmp_path_factory.mktemp("calibration") / "shop")


@pytest.mark.parametrize("r", range(3), ids=BEHAVIORS)
def test_the_calibration_error_against_the_truth_is_at_most_a_percentage_point(
    calibrated: Calibrated, r: int
) -> None:
    given, true = calibrated.given[:, r].ravel(), calibrated.true[:, r].ravel()
    assert calibration_error(given, true) <= 0.01
    spread = calibration_error(true, np.full_like(true, true.mean()))  # rare behaviours have less
    assert calibration_error(given, true) < spread / 4


@pytest.mark.parametrize("r", range(3), ids=BEHAVIORS)
def test_the_mean_over_all_pairs_is_the_observed_rate(calibrated: Calibrated, r: int) -> None:
    records = calibrated.run.split().train.sets[r]
    rate = records.nnz / (records.n_rows * records.n_columns)
    assert calibrated.given[:, r].mean() == pytest.approx(rate, rel=0.05)


def test_probabilities_rank_pairs_as_the_truth_does(calibrated: Calibrated) -> None:
    for r in range(3):
        given, true = calibrated.given[:, r].ravel(), calibrated.true[:, r].ravel()
        assert np.corrcoef(given, true)[0, 1] > 0.7


def test_the_logistic_fit_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    z, prior = rng.normal(0, 1.5, 20_000), rng.normal(-2, 1, 20_000)
    y = rng.random(20_000) < 1 / (1 + np.exp(-(0.7 * z + 1.2 * prior + 0.5)))
    ours = _logistic(np.stack([z, prior, np.ones_like(z)], 1), y.astype(np.float64))
    theirs = LogisticRegression(C=1e9, tol=1e-8).fit(np.stack([z, prior], 1), y)
    assert ours == pytest.approx([*theirs.coef_[0], theirs.intercept_[0]], abs=2e-3)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_all_alike_give_finite_weights(label: float) -> None:
    features = np.stack([np.linspace(-1, 1, 50), np.full(50, -2.0), np.ones(50)], 1)
    weights = _logistic(features, np.full(50, label))
    p = 1 / (1 + np.exp(-features @ weights))
    assert np.isfinite(weights).all()
    assert np.abs(p - label).max() < 0.05


def test_a_log_loss_on_sampled_negatives_is_corrected_with_slope_and_prior_one() -> None:
    """Odds learned with n negatives per positive are too high by (N - k) / (n k)."""
    rng = np.random.default_rng(1)
    M, N, n = 400, 2000, 4
    taste = rng.normal(0, 1.5, (M, N))
    level = rng.normal(-4, 1, (M, 1))
    bought = rng.random((M, N)) < 1 / (1 + np.exp(-(taste + level)))
    k = bought.sum(1, keepdims=True).clip(1)
    drawn = (
        rng.random((M, N)) < n * k / (N - k)
    ) & ~bought  # each negative with chance n k/(N - k)
    learned = taste + level - np.log(n * k / (N - k))  # what a perfect model of the sample says
    sample = bought | drawn
    check = LogisticRegression(C=1e9).fit(learned[sample][:, None], bought[sample])
    assert [check.coef_[0, 0], check.intercept_[0]] == pytest.approx([1, 0], abs=0.05)

    prior = np.broadcast_to(np.log(k / (N - k)), (M, N))
    features = np.stack([learned.ravel(), prior.ravel(), np.ones(M * N)], 1)
    weights = _logistic(features, bought.ravel().astype(np.float64))
    assert weights == pytest.approx([1, 1, np.log(n)], abs=0.05)


def test_the_offset_gives_the_mean_asked_for() -> None:
    logits = np.random.default_rng(2).normal(-3, 2, 1000)
    for rate in (1e-4, 0.05, 0.6):
        c = _solve_offset(logits, rate)
        assert (1 / (1 + np.exp(-(logits + c)))).mean() == pytest.approx(rate, rel=1e-3)


def test_log_odds_by_hand() -> None:
    """Of 10 items: 2 records are odds of 1/4, none counts as half a record, all as 9.5."""
    rows = CSR.from_pairs(np.repeat([0, 2], [2, 10]), np.r_[3, 5, :10], 3, 10)
    found = log_odds(Histories(np.arange(3), (rows,)))
    assert found[:, 0] == pytest.approx(np.log([2 / 8, 0.5 / 9.5, 9.5 / 0.5]))


def test_a_tenth_of_the_cells_is_held_out_and_no_record_of_them_is_trained_on(
    timed: Interactions,
) -> None:
    records = timed.records()
    users = np.arange(timed.n_users)
    held = held_cells(timed, users)
    assert held.mean() == pytest.approx(0.1, abs=0.01)
    for full, reduced in zip(records.sets, without_held(timed, records).sets, strict=True):
        kept = {*zip(reduced.row_of_each(), reduced.indices, strict=True)}
        every = {*zip(full.row_of_each(), full.indices, strict=True)}
        assert kept == {pair for pair in every if not held[pair]}


def test_calibration_goes_to_json_and_back() -> None:
    made = Calibration((1.0, 0.5), (0.9, 1.1), (-3.0, 0.25))
    assert Calibration.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_probabilities_by_hand() -> None:
    """sigmoid(2 z + log(1/4) + 0.5) of one user with 2 of 10 items."""
    histories = Histories(
        np.zeros(1, np.int64), (CSR(np.array([0, 2]), np.array([1, 2], np.int32), 10),)
    )
    made = Calibration((2.0,), (1.0,), (0.5,)).probabilities(torch.tensor([[[0.3]]]), histories)
    assert made.item() == pytest.approx(1 / (1 + np.exp(-(0.6 + np.log(0.25) + 0.5))))


def test_a_model_that_counts_has_no_calibration(timed: Interactions) -> None:
    assert execute(timed, Settings("popularity")).calibration is None


def test_calibration_can_be_declined(timed: Interactions) -> None:
    how: dict[str, Any] = {"epochs": 1, "select": "none", "calibrate": False}
    run = execute(timed, Settings("nmtr-gmf", options={"embedding": 4}, training=Training(**how)))
    assert run.calibration is None
