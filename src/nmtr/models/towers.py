"""The first layers of the MLPs of a cascade, for the rows that reach each of its levels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from nmtr.models.kernels.rows import Levels
from nmtr.models.units import Tower


def first_layers(
    towers: list[Tower], p: Tensor, q: Tensor, levels: Sequence[Levels] | None = None
) -> tuple[Tensor, Tensor]:
    """(R * U, H), (R * N, H) the first layers before activation, tower after tower.

    With the `levels` of p's rows and of q's, each tower has only the rows that reach it, in their
    order (Levels.starts says where). Without towers, (U, 0) and (N, 0).
    """
    if not towers:
        return p.new_zeros(len(p), 0), q.new_zeros(len(q), 0)
    of_p, of_q = levels or (None, None)
    for_p = torch.stack([each.first_p.weight for each in towers])
    for_q = torch.stack([each.first_q.weight for each in towers])
    shift = torch.stack([each.first_p.bias for each in towers])
    none = torch.zeros_like(shift, requires_grad=False)
    return _apply(p, for_p, shift, of_p), _apply(q, for_q, none, of_q)


def _apply(rows: Tensor, weight: Tensor, shift: Tensor, levels: Levels | None) -> Tensor:
    order = None if levels is None else torch.from_numpy(levels.order)
    counts = [len(rows)] * len(weight) if levels is None else levels.counts.tolist()
    out: Tensor = _FirstLayers.apply(  # type: ignore[no-untyped-call]
        rows, weight, shift, order, counts
    )
    return out


def _parts(whole: Tensor, counts: list[int]) -> list[Tensor]:
    ends = accumulate(counts)
    return [whole[end - count : end] for end, count in zip(ends, counts, strict=True)]


class _FirstLayers(torch.autograd.Function):
    """weight (R, H, E) and shift (R, H) on the first counts[r] of rows (n, E) in an order."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        rows, weight, shift, order, counts = inputs
        ranked = rows if order is None else rows[order]
        out: Tensor = rows.new_empty(sum(counts), weight.shape[1])
        for part, each, own in zip(_parts(out, counts), weight, shift, strict=True):
            torch.addmm(own, ranked[: len(part)], each.T, out=part)
        ctx.save_for_backward(ranked, weight)
        ctx.order, ctx.counts = order, counts
        return out

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        ranked, weight = ctx.saved_tensors
        slope = torch.zeros_like(ranked)
        of_weight, of_shift = torch.empty_like(weight), weight.new_empty(weight.shape[:2])
        for r, part in enumerate(_parts(outputs[0], ctx.counts)):
            slope[: len(part)].addmm_(part, weight[r])
            torch.mm(part.T, ranked[: len(part)], out=of_weight[r])
            torch.sum(part, 0, out=of_shift[r])
        if ctx.order is not None:
            slope = torch.empty_like(slope).index_copy_(0, ctx.order, slope)
        return slope, of_weight, of_shift, None, None
