"""Losses as pure functions of logits and labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LINKS = ("probability", "logit", "product", "none")


def weighted_log_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum over labelled pairs of weight times log loss: one behaviour's part of NMTR's eq. 5.

    logits, target, weight: one shape; returns a scalar.
    """
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")


def pairwise_loss(p: Tensor, q: Tensor, u: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Mean over triples (T,) of log(1 + exp(p_u . q_j - p_u . q_i)): BPR's, a scalar."""
    margin = (p[u] * (q[i] - q[j])).sum(1)
    return F.softplus(-margin).sum() / max(len(u), 1)


def link(below: Tensor, own: Tensor, *, kind: str) -> Tensor:
    """One step of the cascade (NMTR, eq. 4): the logit below and f^r + b^r, to the logit of r.

    `probability` is eq. 4: the probability of the level below is added; `logit` averages with the
    logit below, as the authors' later code does; `none` leaves the behaviours apart. `product`:
    y^r = y^(r-1) sigmoid(own), never above the level below; 1 / y^r - 1 is the sum of e^-z for z
    the logit below, own, and both together.
    """
    if kind == "probability":
        return torch.sigmoid(below) + own
    if kind == "logit":
        return (below + own) / 2
    if kind == "product":
        return -torch.stack([-below, -own, -below - own]).logsumexp(0)
    return own
