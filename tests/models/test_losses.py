"""Losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nmtr.models.losses import pairwise_loss

P = torch.tensor([[1.0, 2.0]])
Q = torch.tensor([[3.0, 0.0], [0.0, 1.0]])  # p . q is 3, and 2


@pytest.mark.parametrize(
    ("i", "j", "value"),
    [
        ([0], [1], math.log1p(math.exp(-1))),
        ([1], [0], math.log1p(math.exp(1))),
        ([0, 1], [1, 0], math.log1p(math.exp(-1)) / 2 + math.log1p(math.exp(1)) / 2),
        ([], [], 0.0),
    ],
)
def test_the_pairwise_loss_is_the_mean_over_triples(
    i: list[int], j: list[int], value: float
) -> None:
    users, better, worse = (torch.tensor(each, dtype=torch.long) for each in ([0] * len(i), i, j))
    assert pairwise_loss(P, Q, users, better, worse).item() == pytest.approx(value)
