"""APR: its step against the slopes of its two losses, and when the adversary comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from nmtr.data.records import CSR, Records
from nmtr.models import apr, make
from nmtr.models.base import Model, Shape
from nmtr.models.kernels.apr import apr_step

M, N = 20, 30
RNG = np.random.default_rng(2)
GIVEN = Records(("keep",), (CSR.from_pairs(np.arange(80) % M, RNG.integers(0, N, 80), M, N),))


def trained(name: str, epochs: int, **options: Any) -> Model:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = make(name, options, Shape(M, N, GIVEN.behaviors))
    model.learn(GIVEN)
    sweep = model.sweep(GIVEN, rate=0.1, negatives=2)
    for epoch in range(epochs):
        model.begin(epoch)
        sweep(epoch)
    return model


def same(one: Model, other: Model) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_step_goes_down_both_losses_the_second_where_vectors_are_moved_against_the_first() -> (
    None
):
    rng = np.random.default_rng(1)
    rate, l2, epsilon, adversary = (np.float32(each) for each in (0.3, 0.07, 0.4, 1.7))
    for _ in range(5):
        arrays = [rng.normal(0, 1, size).astype(np.float32) for size in (5, (3, 5), 3)]
        p, q, bias = leaves = [
            torch.from_numpy(each.astype(np.float64)).requires_grad_() for each in arrays
        ]
        own = F.softplus(p @ (q[0] - q[2]) + bias[0] - bias[2])
        slopes = torch.autograd.grad(own, (p, q), retain_graph=True)
        lengths = slopes[1].norm(dim=1, keepdim=True).clamp(min=1e-30)
        by_p, by_q = slopes[0] / slopes[0].norm(), slopes[1] / lengths
        moved_p, moved_q = p + float(epsilon) * by_p, q + float(epsilon) * by_q
        hers = F.softplus(moved_p @ (moved_q[0] - moved_q[2]) + bias[0] - bias[2])
        assert hers.item() > own.item(), "the adversary makes it worse"
        loss = own + float(adversary) * hers
        decay = p.square().sum() + q[[2, 0]].square().sum() + bias[[2, 0]].square().sum()
        (loss + float(l2) / 2 * decay).backward()  # type: ignore[no-untyped-call]
        found = apr_step(arrays[0], arrays[1], arrays[2], 2, 0, rate, l2, epsilon, adversary)
        assert found == pytest.approx(loss.item(), abs=1e-5)
        for after, leaf in zip(arrays, leaves, strict=True):
            assert leaf.grad is not None
            wanted = leaf.detach() - float(rate) * leaf.grad
            assert np.allclose(after, wanted.numpy(), atol=1e-6)


def test_vectors_of_nothing_have_no_direction_and_stay_numbers() -> None:
    p, q, bias = np.zeros(3, np.float32), np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    half = np.float32(0.5)
    assert np.isfinite(apr_step(p, q, bias, 0, 1, half, half, half, half))
    assert not p.any()
    assert bias[0] == -bias[1] > 0


def test_the_first_epochs_are_plain_bpr_and_are_not_chosen() -> None:
    before = trained("apr", 2, pretrain=2)
    assert same(before, trained("bpr", 2))
    assert before.warm_up == 2
    assert not same(trained("apr", 3, pretrain=2), trained("bpr", 3))
    assert not same(trained("apr", 3, pretrain=2), trained("apr", 3, pretrain=2, epsilon=0.1))


def test_without_reach_the_adversary_only_doubles_the_loss() -> None:
    one, other = (
        trained("apr", 1, pretrain=0, epsilon=0.0, l2=0.0, adversary=0.0),
        trained("bpr", 1, l2=0.0),
    )
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": -1.0}, {"adversary": float("nan")}, {"pretrain": -1}, {"l2": -1.0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        apr.Config(**wrong)
