"""Weights of behaviours that follow their losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Batch, Shape
from nmtr.models.nmtr import NMTR
from nmtr.models.nmtr_balanced import BalancedNMTR

SHAPE = Shape(6, 9, ("look", "hold", "keep"))


def new(name: str = "nmtr-balanced") -> NMTR:
    torch.manual_seed(3)
    model = make(name, {"embedding": 4, "init_std": 0.8, "unit": "gmf"}, SHAPE)
    assert isinstance(model, NMTR)
    return model


def batch() -> Batch:
    rng = np.random.default_rng(0)
    pairs = (torch.from_numpy(rng.integers(0, size, 40)) for size in (6, 9))
    labels = torch.from_numpy(rng.integers(0, 2, (2, 40, 3)).astype(np.float32))
    return Batch(*pairs, *labels)


def alone(met: Batch, r: int) -> Batch:
    """The labels of one behaviour."""
    weight = torch.zeros_like(met.weight)
    weight[:, r] = met.weight[:, r]
    return Batch(met.user, met.item, met.target, weight)


def means(model: NMTR, met: Batch) -> list[float]:
    """The mean log loss of each behaviour's labelled pairs, by NMTR's own loss."""
    found = []
    for r in range(3):
        part = alone(met, r)
        loss = model.plain_loss(part, torch.ones(3)).item() * len(met)
        found.append(loss / part.weight.sum().item())
    return found


def test_the_loss_is_that_of_the_source() -> None:
    model, met = new(), batch()
    assert isinstance(model, BalancedNMTR)
    with torch.no_grad():
        model.spread.copy_(torch.tensor([0.5, -1.0, 0.2]))
    expected = 0.0
    for mean, s, n in zip(means(model, met), (0.5, -1.0, 0.2), met.weight.sum(0), strict=True):
        expected += n.item() * (math.exp(-s) * mean + s / 2)
    assert model.loss(met).item() == pytest.approx(expected / len(met), rel=1e-5)


def test_weights_come_to_half_of_one_over_the_mean_loss() -> None:
    model, met = new(), batch()
    assert isinstance(model, BalancedNMTR)
    for _ in range(300):
        (slope,) = torch.autograd.grad(model.loss(met), [model.spread])
        with torch.no_grad():
            model.spread.sub_(slope)
    expected = [1 / (2 * mean) for mean in means(model, met)]
    assert model.spread.neg().exp().tolist() == pytest.approx(expected, rel=1e-3)
    model.loss(met)
    assert model.state_dict()["lambdas"].tolist() == pytest.approx(expected, rel=1e-3)


def test_scores_are_nmtr_s() -> None:
    pairs = torch.tensor([0, 3]), torch.tensor([5, 1])
    assert torch.equal(new().pair_logits(*pairs), new("nmtr").pair_logits(*pairs))


def test_weights_that_are_given_are_refused() -> None:
    with pytest.raises(UsageError, match="lambdas: they are learned; expected none"):
        make("nmtr-balanced", {"lambdas": (1, 1, 1)}, SHAPE)
