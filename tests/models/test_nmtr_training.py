"""What NMTR does beside its equations: lambdas, dropout, strangers, gradients of a few rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Records
from nmtr.models.base import Batch, Shape
from nmtr.models.nmtr import NMTR, Config

SHAPE = Shape(50, 60, ("low", "high"))
EMPTY = CSR(np.zeros(51, np.int64), np.zeros(0, np.int32), 60)


def make(**options: Any) -> NMTR:
    torch.manual_seed(1)
    return NMTR(Config(embedding=4, layers=(6, 3), init_std=0.5, **options), SHAPE)


def batch_of(rows: int, *, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(
        torch.from_numpy(rng.integers(0, 50, rows)),
        torch.from_numpy(rng.integers(0, 60, rows)),
        torch.from_numpy(rng.integers(0, 2, (rows, 2)).astype(np.float32)),
        torch.ones(rows, 2),
    )


def grad_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_lambdas_count_by_their_share() -> None:
    assert make(lambdas=(1.0, 3.0)).lambdas.tolist() == [0.25, 0.75]
    assert make().lambdas.tolist() == [0.5, 0.5]
    batch = batch_of(30)
    assert (
        make(lambdas=(2.0, 6.0)).loss(batch).item() == make(lambdas=(1.0, 3.0)).loss(batch).item()
    )


def test_a_behaviour_of_lambda_0_teaches_nothing_of_its_own() -> None:
    batch = batch_of(30)
    wrong = torch.stack([1 - batch.target[:, 0], batch.target[:, 1]], 1)
    other = Batch(batch.user, batch.item, wrong, batch.weight)
    for loss in ("loss", "plain_loss"):
        model = make(lambdas=(0.0, 1.0))
        assert getattr(model, loss)(batch).item() == getattr(model, loss)(other).item()


@pytest.mark.parametrize("unit", ["gmf", "mlp", "neumf"])
def test_dropout_works_in_training_and_only_there(unit: Any) -> None:
    model, batch = make(unit=unit, dropout=0.5), batch_of(200)
    without = make(unit=unit)
    model.eval()
    quiet = [model.loss(batch).item() for _ in range(3)]
    assert quiet == [pytest.approx(without.eval().loss(batch).item(), rel=1e-6)] * 3
    histories = Records(SHAPE.behaviors, (EMPTY, EMPTY)).histories(np.arange(5))
    scores = model.score(model.encode(histories), histories)
    assert torch.equal(scores, without.score(without.encode(histories), histories))
    model.train()
    assert len({model.loss(batch).item() for _ in range(5)}) == 5


def test_a_stranger_gets_the_mean_user() -> None:
    model = make()
    histories = Records(SHAPE.behaviors, (EMPTY, EMPTY)).histories(np.array([3, -1, -1]))
    state = model.encode(histories)
    assert torch.equal(state[0], model.user[3])
    assert torch.allclose(state[1], model.user.mean(0))
    assert torch.equal(state[1], state[2])


@pytest.mark.parametrize("loss", ["loss", "plain_loss"])
def test_gradients_of_tables_hold_the_rows_of_the_batch_once_and_in_order(loss: str) -> None:
    model, batch = make(l2=0.1), batch_of(25)
    getattr(model, loss)(batch).backward()
    met = {"user": batch.user, "item": batch.item, "bias": batch.item}
    for name, rows in met.items():
        grad = grad_of(getattr(model, name))
        assert grad.is_sparse
        assert grad._indices()[0].tolist() == sorted(set(rows.tolist()))


@pytest.mark.parametrize("loss", ["loss", "plain_loss"])
def test_gradients_of_two_batches_add(loss: str) -> None:
    parts = [batch_of(25, seed=seed) for seed in (1, 2)]
    model = make()
    expected: dict[str, Tensor] = {}
    for part in parts:
        model.zero_grad()
        getattr(model, loss)(part).backward()
        for name, each in model.named_parameters():
            grad = grad_of(each).to_dense()
            expected[name] = expected[name] + grad if name in expected else grad.clone()
    model.zero_grad()
    for part in parts:
        getattr(model, loss)(part).backward()
    for name, each in model.named_parameters():
        assert torch.allclose(grad_of(each).to_dense(), expected[name], atol=1e-7)
        if grad_of(each).is_sparse:
            rows = grad_of(each)._indices()[0]
            assert len(rows) == len(set(rows.tolist())), "an optimiser would lose one of two"


def test_certainty_does_not_overflow() -> None:
    model, batch = make(), batch_of(40)
    with torch.no_grad():
        model.user.mul_(1000)
    fused, plain = model.loss(batch), model.plain_loss(batch)
    assert fused.item() == pytest.approx(plain.item(), rel=1e-5)
    fused.backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(grad_of(each).to_dense()).all() for each in model.parameters())


def test_a_share_without_rows_has_no_loss() -> None:
    empty = batch_of(0)
    for unit in ("gmf", "mlp"):
        model = make(unit=unit, l2=0.1)
        assert model.loss(empty).item() == 0
        assert model.plain_loss(empty).item() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lambdas": (1.0, 2.0, 3.0)}, "lambdas: expected 2 .* low, high, got 3"),
        ({"lambdas": (0.0, 0.0)}, "positive sum"),
        ({"lambdas": (-1.0, 2.0)}, "non-negative"),
        ({"unit": "dot"}, "expected one of gmf, mlp, neumf, got 'dot'"),
        ({"cascade": "sum"}, "expected one of probability, logit, product, none, got 'sum'"),
        ({"activation": "step"}, "expected one of relu, .*got 'step'"),
        ({"dropout": 1.0}, "0 <= dropout < 1, got 1.0"),
        ({"l2": -1.0}, "got -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**options)


@pytest.mark.parametrize(("unit", "shrunk"), [("gmf", False), ("mlp", True), ("neumf", True)])
def test_mlp_l2_is_half_the_square_of_the_mlps_own_weights(unit: str, shrunk: bool) -> None:
    batch = batch_of(25)
    free, held = make(unit=unit), make(unit=unit, mlp_l2=0.1)
    own = [each for name, each in free.units.named_parameters() if "tower" in name or unit == "mlp"]
    if unit == "neumf":  # the MLP's last weights are its own too, GMF's h is not
        own += [each for name, each in free.units.named_parameters() if name.endswith("mlp.h")]
    norm = sum(each.square().sum().item() for each in own) if shrunk else 0.0
    assert held.loss(batch).item() == pytest.approx(free.loss(batch).item() + 0.05 * norm)
