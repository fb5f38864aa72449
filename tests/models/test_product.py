"""The cascade as a product of chances: y^r = y^(r-1) sigmoid(f^r + b^r)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nmtr.data.records import CSR, Records
from nmtr.models.base import Batch, Shape
from nmtr.models.losses import link, weighted_log_loss
from nmtr.models.nmtr import NMTR, Config

SHAPE = Shape(5, 7, ("look", "hold", "keep"))


def new(unit: str = "gmf", spread: float = 1.0) -> NMTR:
    torch.manual_seed(4)
    config = Config(unit=unit, cascade="product", embedding=4, layers=(6, 3), init_std=spread)  # type: ignore[arg-type]
    model = NMTR(config, SHAPE)
    with torch.no_grad():
        model.bias.normal_(0, spread)
    return model


def chain(below: float, own: float) -> float:
    """The logit of the product of two chances."""
    y = 1 / (1 + math.exp(-below)) / (1 + math.exp(-own))
    return math.log(y) - math.log1p(-y)


@given(st.floats(-12, 12), st.floats(-12, 12))
def test_a_step_is_the_product_of_two_chances(below: float, own: float) -> None:
    z = torch.tensor([below, own], dtype=torch.float64)
    assert link(z[0], z[1], kind="product").item() == pytest.approx(chain(below, own), abs=1e-6)


@given(st.floats(-80, 80), st.floats(-80, 80), st.integers(0, 1))
def test_far_out_neither_loss_nor_slope_leaves_the_numbers(
    below: float, own: float, label: int
) -> None:
    z = torch.tensor([below, own], requires_grad=True)
    logit = link(z[0], z[1], kind="product")
    weighted_log_loss(logit, torch.tensor(float(label)), torch.ones(())).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert torch.isfinite(logit)
    assert torch.isfinite(z.grad).all()
    assert logit.item() <= min(below, own) + 1e-4


@pytest.mark.parametrize("unit", ["gmf", "mlp", "neumf"])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_no_behaviour_is_likelier_than_the_one_below(unit: str, spread: float) -> None:
    model = new(unit, spread)
    none = CSR.from_pairs([], [], 5, 7)
    histories = Records(SHAPE.behaviors, (none,) * 3).histories(np.array([0, 3, -1]))
    found = model.score_behaviors(model.encode(histories), histories)
    assert (found[:, 1:] <= found[:, :-1] + 1e-6).all()
    assert found[:, 1:].ne(found[:, :-1]).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_slopes_are_those_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = new().double()
    model.lambdas = model.lambdas.double()
    user, item = (torch.from_numpy(rng.integers(0, size, 6)) for size in (5, 7))
    target, weight = (torch.from_numpy(rng.integers(0, 2, (6, 3)).astype(float)) for _ in range(2))
    batch = Batch(user, item, target, weight)
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    for each in (model.user, model.item, model.bias):
        if each.grad is None:
            assert not weight.any()
            continue
        grad = each.grad.to_dense()
        at = tuple(int(rng.integers(size)) for size in each.shape)
        values = []
        with torch.no_grad():
            start = each[at].item()
            for step in (-1e-6, 1e-6):
                each[at] = start + step
                values.append(model.loss(batch).item())
            each[at] = start
        assert grad[at].item() == pytest.approx((values[1] - values[0]) / 2e-6, abs=1e-7)


def test_it_learns_from_what_goes_no_further() -> None:
    """A pair that is looked at and no more lowers what follows, and raises looking."""
    model = new(spread=0.01)
    one = torch.zeros(1, dtype=torch.int64)
    batch = Batch(one, one, torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1, 3))
    before = model.pair_logits(one, one)[0].detach()
    for _ in range(50):
        loss = model.loss(batch)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert model.bias.grad is not None
            model.bias.sub_(model.bias.grad.to_dense(), alpha=0.5)
    after: Tensor = model.pair_logits(one, one)[0]
    assert after[0] > before[0]
    assert (after[1:] < before[1:]).all()
