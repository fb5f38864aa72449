"""Propagation over a bipartite graph of users and items; a symmetric one, so alike backwards.

Letters: M users, N items, E embedding size, T triples of a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from nmtr.models.base import Batch

Edges = tuple[Tensor, Tensor, Tensor]  # a CSR: (rows + 1,) ends, (edges,) columns and weights


class Graph(nn.Module):
    """Edges weighted a_ui = x_ui / sqrt(d_u d_i), by user and by item; nothing to be saved.

    item_scale: (N,) 1 / sqrt(d_i), or 0 for an item without an edge.
    """

    item_scale: Tensor

    def __init__(self, x: csr_array) -> None:
        """x: (M, N) positive weights; a degree d is the sum of a row or of a column."""
        super().__init__()
        degrees = (x.sum(axis, dtype=np.float64) for axis in (1, 0))
        user_scale, item_scale = (np.where(d > 0, d, np.inf) ** -0.5 for d in degrees)
        values = x.data * np.repeat(user_scale, np.diff(x.indptr)) * item_scale[x.indices]
        by_user = csr_array((values.astype(np.float32), x.indices, x.indptr), shape=x.shape)
        by_item = by_user.T.tocsr()
        self._keep("item_scale", item_scale.astype(np.float32))
        for side, edges in (("user", by_user), ("item", by_item)):
            for name in ("indptr", "indices", "data"):
                self._keep(f"{side}_{name}", getattr(edges, name))

    def _keep(self, name: str, array: Any) -> None:
        """A buffer, so that it moves to a device with the model."""
        self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def edges(self, side: str) -> Edges:
        """Of each `user`, or of each `item`."""
        indptr, indices, weights = (
            self.get_buffer(f"{side}_{name}") for name in ("indptr", "indices", "data")
        )
        return indptr, indices, weights

    def sums(self, user: Tensor, item: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """The sums of layers 0 to depth: of users (M, E) and of items (N, E), layer 0 given.

        A node's next layer is the weighted sum of its neighbours'; so the sum of its layers up to
        k + 1 is its own layer 0 plus the weighted sum of its neighbours' sums up to k.
        """
        users, items = user, item
        for _ in range(depth):
            users, items = self.users_above(user, items), self.items_above(item, users)
        return users, items

    def users_above(self, user: Tensor, items: Tensor) -> Tensor:
        """(M, E) users' own layer 0 plus the weighted sum of `items` (N, E)."""
        return weighted_sums(self.edges("user"), items).add_(user)

    def items_above(self, item: Tensor, users: Tensor) -> Tensor:
        """(N, E) items' own layer 0 plus the weighted sum of `users` (M, E)."""
        return weighted_sums(self.edges("item"), users).add_(item)


class LayerMean(torch.autograd.Function):
    """The means of layers 0 to depth of users and items. Inputs: layer 0 of both, Graph, depth."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        user, item, ctx.graph, ctx.depth = inputs
        users, items = ctx.graph.sums(user, item, ctx.depth)
        return users / (ctx.depth + 1), items / (ctx.depth + 1)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        grads = ctx.graph.sums(*(each / (ctx.depth + 1) for each in outputs), ctx.depth)
        return (*grads, None, None)


def weighted_sums(edges: Edges, x: Tensor) -> Tensor:
    """(rows, E) each row's weighted sum of rows of x (n, E).

    As a sum of embeddings: on a CPU twice as fast as torch's or SciPy's sparse product.
    """
    indptr, indices, weights = edges
    return embedding_bag(
        indices, x, indptr, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def triples(batch: Batch, column: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(T,) each: users, their positives and their negatives under one of a batch's behaviours.

    A negative's positive is the last one before it.
    """
    positive = (batch.target > 0).any(1)
    place = torch.arange(len(batch), device=positive.device)
    last = torch.where(positive, place, 0).cummax(0).values
    rows = ((batch.weight[:, column] > 0) & ~positive).nonzero().squeeze(1)
    return batch.user[rows], batch.item[last[rows]], batch.item[rows]
