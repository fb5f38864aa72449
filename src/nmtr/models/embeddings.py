"""Rows of a table whose gradient stays as small as the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nmtr.models.kernels.rows import Met


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        table, rows = inputs
        ctx.shape = table.shape
        ctx.save_for_backward(rows)
        if table.is_cpu:  # torch would wake its threads for this, on the cores that ours are on
            return torch.from_numpy(table.detach().numpy().take(rows.numpy(), axis=0))
        taken: Tensor = table.index_select(0, rows)
        return taken

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (rows,) = ctx.saved_tensors
        return sparse_rows(rows, outputs[0], ctx.shape), None


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """table[rows] for distinct, ascending rows (n,), with a row-sparse gradient.

    A table whose rows are divided among processes has a `lookup` of its own.
    """
    if (lookup := getattr(table, "lookup", None)) is not None:
        fetched: Tensor = lookup(table, rows)
        return fetched
    taken: Tensor = _TakeRows.apply(table, rows)  # type: ignore[no-untyped-call]
    return taken


def sparse_rows(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A sparse tensor of this shape: `values` (n, ...) at distinct, ascending rows (n,), else 0."""
    return torch.sparse_coo_tensor(
        rows[None], values, shape, is_coalesced=True, check_invariants=False
    )


@dataclass(frozen=True)
class Rows:
    """The distinct indices of a batch, ascending; each row's place among them; how often each."""

    indices: Tensor
    places: Tensor
    times: Tensor

    @classmethod
    def of(cls, indices: Tensor) -> Rows:
        return cls(*torch.unique(indices, return_inverse=True, return_counts=True))

    def norms(self, *taken: Tensor) -> Tensor:
        """The squares of rows taken at `indices`, (n, E) each, summed as often as they are met."""
        squares = [each.square().flatten(1).sum(1) for each in taken]
        return (torch.stack(squares).sum(0) * self.times).sum()

    def met(self) -> Met:
        """The same for the kernels."""
        return Met(self.indices.numpy(), self.places.numpy(), self.times.numpy())
