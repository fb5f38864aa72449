"""CMF against its equations: one item vector for all behaviours, one user vector for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from nmtr.data.records import CSR, Records
from nmtr.models.base import Batch, Shape
from nmtr.models.cmf import CMF, Config
from nmtr.models.kernels.cascade import LEAST

M, N, E = 7, 9, 5
BEHAVIORS = ("glance", "hold", "keep")


def new(**options: Any) -> CMF:
    torch.manual_seed(2)
    config = Config(**{"embedding": E, "init_std": 0.7, **options})
    model = CMF(config, Shape(M, N, BEHAVIORS))
    with torch.no_grad():
        model.bias.normal_(0, 0.5)
    return model


def batch_of(rows: int = 40) -> Batch:
    rng = np.random.default_rng(0)
    weight = rng.choice([0.0, 1.0, 2.5], (rows, 3), p=[0.5, 0.3, 0.2])
    weight[0] = 0  # a row without any task
    return Batch(
        torch.from_numpy(np.sort(rng.integers(0, M, rows))),
        torch.from_numpy(rng.integers(0, N, rows)),
        torch.from_numpy(rng.integers(0, 2, (rows, 3)).astype(np.float32)),
        torch.from_numpy(weight.astype(np.float32)),
    )


def by_hand(model: CMF, batch: Batch, lambdas: tuple[float, ...], l2: float) -> float:
    total = 0.0
    user, item, bias = (each.detach().double().numpy() for each in model.parameters())
    for row in range(len(batch)):
        u, i = int(batch.user[row]), int(batch.item[row])
        for r, share in enumerate(lambdas):
            if weight := float(batch.weight[row, r]):
                p, q, b = user[u, r * E : (r + 1) * E], item[i], bias[i, r]
                y = 1 / (1 + math.exp(-(p @ q + b)))
                label = float(batch.target[row, r])
                total -= share * weight * math.log(y if label else 1 - y)
                total += l2 / 2 * (p @ p + q @ q + b * b)
    return total / len(batch)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_loss_is_that_of_the_equations() -> None:
    model, batch = new(l2=0.3, lambdas=(1.0, 2.0, 5.0)), batch_of()
    wanted = by_hand(model, batch, (0.125, 0.25, 0.625), 0.3)
    assert model.loss(batch).item() == pytest.approx(wanted, rel=1e-5)
    assert model.plain_loss(batch).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("rows", [40, 3 * LEAST])
@pytest.mark.usefixtures("two_threads")
def test_the_kernel_has_the_gradient_of_the_plain_loss(rows: int) -> None:
    batch = batch_of(rows)
    fused, plain = new(l2=0.3), new(l2=0.3)
    (3 * fused.loss(batch)).backward()  # type: ignore[no-untyped-call]
    (3 * plain.plain_loss(batch)).backward()  # type: ignore[no-untyped-call]
    for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad.to_dense(), other.grad, atol=1e-5), name
        assert other.grad.abs().max() > 1e-3, name


def test_a_behaviour_teaches_the_items_and_its_own_user_vectors_only() -> None:
    model, batch = new(), batch_of()
    only = batch.weight.clone()
    only[:, 1:] = 0
    model.loss(Batch(batch.user, batch.item, batch.target, only)).backward()  # type: ignore[no-untyped-call]
    user, item = model.user.grad, model.item.grad
    assert user is not None
    assert item is not None
    assert user.to_dense()[:, :E].abs().max() > 0
    assert user.to_dense()[:, E:].abs().max() == 0
    assert item.to_dense().abs().max() > 0


def test_who_has_no_record_of_a_behaviour_has_the_mean_vector_for_it() -> None:
    model = new()
    users = np.arange(1, M)
    some = CSR.from_pairs(users, users % N, M, N)
    everyone = CSR.from_pairs(np.arange(M), np.arange(M) % N, M, N)
    given = Records(BEHAVIORS, (everyone, some, everyone))
    model.learn(given)
    found = model.encode(given.histories(np.array([0, 3])))
    assert torch.equal(found[0, :E], model.user[0, :E])
    assert torch.allclose(found[0, E : 2 * E], model.user[1:, E : 2 * E].mean(0), atol=1e-6)
    assert torch.equal(found[1], model.user[3])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"embedding": 0}, "embedding: expected 1 or more, got 0"),
        ({"l2": float("nan")}, "l2"),
        ({"init_std": 0.0}, "init_std"),
        ({"lambdas": (0.0, 0.0, 0.0)}, "lambdas: expected non-negative"),
        ({"lambdas": (1.0, 1.0)}, "lambdas: expected 3 of them"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        new(**wrong)
