"""A cascade of units as compiled code and fold-in read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmtr.models.base import Batch, Pass
from nmtr.models.embeddings import with_bias
from nmtr.models.foldin import Value
from nmtr.models.kernels.cascade import KINDS
from nmtr.models.kernels.gmf_step import Sums, Tables, adagrad, gmf_step
from nmtr.models.kernels.pairs import Cascade
from nmtr.models.kernels.user import gmf_user
from nmtr.models.losses import link
from nmtr.models.towers import first_layers
from nmtr.models.units import Unit, gmf_weights, mlps, upper_weights


def laid_out(
    units: Sequence[Unit],
    p: Tensor,
    item: Tensor,
    bias: Tensor,
    widths: tuple[int, ...],
    like: Cascade | None,
) -> Cascade:
    """The cascade of users p (B, E) and all items (N, E), or with the items of one made before."""
    if like and not widths:
        (own,) = _arrays(p)
        none = np.zeros((len(own), 0), np.float32)
        return like._replace(p=own, first_p=none)
    found = mlps(units)
    towers = [each.tower for each in found]
    if like:
        own, first = _arrays(p, first_layers(towers, p, item[:0])[0])
        return like._replace(p=own, first_p=first)
    both = first_layers(towers, p, item)
    learned = (p, item, bias, gmf_weights(units, p), *both, upper_weights(found, p))
    rows = [*_arrays(*learned), np.array(widths, np.int64)]
    return Cascade(*rows)


def _arrays(*tensors: Tensor) -> list[Any]:
    return [each.detach().contiguous().numpy() for each in tensors]


def cascade_logits(
    units: Sequence[Unit], q: Tensor, bias: Tensor, kind: str
) -> Callable[[Tensor], Tensor]:
    """What gives (R, S) logits for a vector (E,); q (S, E) and bias (S, R) are the items'."""
    parts = list(zip((unit.of_items(q) for unit in units), bias.T.contiguous(), strict=True))

    def logits(p: Tensor) -> Tensor:
        levels: list[Tensor] = []
        for unit, shift in parts:
            own = unit(p) + shift
            levels.append(link(levels[-1], own, kind=kind) if levels else own)
        return torch.stack(levels)

    return logits


def indexed(units: Sequence[Unit], item: Tensor, bias: Tensor, kind: str) -> Tensor | None:
    """(N, E + 1) [h * q, b] of the target's part, or None where that is no inner product.

    A cascade by logits is one product altogether: each level halves what comes from below. By
    probability, the target's own part is its floor (kernels.pairs).
    """
    if mlps(units):
        return None
    shares = bias.new_zeros(len(units))
    for r in range(len(units)):
        shares *= 0.5 if kind == "logit" else 0.0
        shares[r] = 0.5 if kind == "logit" and r else 1.0
    return with_bias(item * (shares @ gmf_weights(units, item)), bias @ shares)


def gmf_loss(
    item: Tensor, bias: Tensor, h: Tensor, kind: str, items: Any, target: Any, weight: Any
) -> Value:
    """What gives a user's log loss on some items and its slope, under GMF units, compiled.

    item (N, E), bias (N, R), h (R, E); items (S,); target, weight (R, S).
    """
    q, b, weights = _arrays(item, bias, h)
    rows, code = items.astype(np.int64), KINDS[kind]

    def value(p: Any) -> Any:
        slope = np.zeros_like(p)
        return gmf_user(p, rows, q, b, weights, code, target, weight, slope), slope

    return value


def gmf_adagrad(
    check: Callable[[Batch], None], learned: Mapping[str, Tensor], squares: Mapping[str, Tensor],
    lambdas: Tensor, kind: str, l2: float, rate: float, epsilon: float,
) -> Pass:  # fmt: skip
    """What makes a step of Adagrad on what a cascade of GMF units has learned, by name."""
    pairs = [(learned[name], squares[name]) for name in ("user", "item", "bias")]
    tables = Tables(*_arrays(*(each for pair in pairs for each in pair)))
    sums, lambdas_of = Sums.of(tables), lambdas.numpy()
    rows_of_h = [
        _arrays(learned[f"units.{r}.h"][None], squares[f"units.{r}.h"][None])
        for r in range(len(lambdas_of))
    ]
    rate32, epsilon32 = np.float32(rate), np.float32(epsilon)

    def step(batch: Batch) -> float:
        check(batch)
        user, *others = _arrays(batch.user, batch.item, batch.target, batch.weight)
        if (user[1:] < user[:-1]).any():
            order = np.argsort(user, kind="stable")
            user, *others = (each[order] for each in (user, *others))
        item, target, weight = others
        h = np.concatenate([own for own, _ in rows_of_h])
        loss, slopes = gmf_step(
            user, item, target, weight, lambdas_of, KINDS[kind], l2, rate, epsilon, h, tables, sums
        )
        for r, (own, own_squares) in enumerate(rows_of_h):
            adagrad(own, own_squares, 0, slopes, r, np.float32(0), rate32, epsilon32)
        return float(loss)

    return step
