"""LightGCN: BPR on vectors that are smoothed over the graph of users and items.

He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR
2020. With x_ui the weight of a recorded pair, d a row's or a column's sum of weights, and layer 0
learned,

    e_u^(k+1) = sum_i x_ui / sqrt(d_u d_i) e_i^(k),    e_i^(k+1) alike over the item's users    (3)
    e = mean of e^(0), ..., e^(K),    score_ui = e_u . e_i                                  (4, 5)
    L = mean over (u, i, j) of log(1 + exp(score_uj - score_ui)) + l2 / 2 of the squares of the
        layer 0 of u, i and j,    i a target item of u, j drawn from the others                (15)

Several behaviours enter as one matrix X, the weighted sum of theirs; the triples are the target's.
Layer 0 apart, a user's vector follows from their history: a stranger's is that alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from nmtr.data.records import Histories, Records
from nmtr.data.weighted import check_weights, weighted_sum, weights_of
from nmtr.models.base import Batch, Model, Shape
from nmtr.models.embeddings import with_bias
from nmtr.models.graph import Graph, LayerMean, triples, weighted_sums
from nmtr.models.kernels.triples import TripleLoss
from nmtr.models.losses import pairwise_loss
from nmtr.models.space import Range, Space, Weights, Whole


@dataclass(frozen=True)
class Config:
    """LightGCN's settings.

    layers: K, how many steps a vector travels. l2, init_std: of layer 0, for each triple and at the
    start.
    weights: one per behaviour, the target's last; empty for the target alone.
    """

    embedding: int = 64
    layers: int = 3
    l2: float = 1e-3
    init_std: float = 0.1
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.embedding < 1 or self.layers < 1:
            raise ValueError(
                f"embedding and layers must be positive, got {self.embedding} and {self.layers}"
            )
        if not (self.l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                f"expected l2 >= 0 and init_std > 0, got {self.l2} and {self.init_std}"
            )
        check_weights(self.weights)

    def space(self) -> Space:
        return {
            "l2": Range(1e-5, 0.1, log=True, least=1e-7),
            "learning_rate": Range(0.02, 1.0, log=True),
            "batch_size": Whole(2048, 32_768, log=True),  # each step pays for the whole graph
            "negatives": Whole(1, 8),
            "layers": Whole(1, 4, most=8),
            "weights": Weights(0.01, 3.0, empty=0.0),
        }


class LightGCN(Model):
    """Scores by smoothed vectors, alike for every behaviour.

    What scores is kept beside what is learned, so that a saved run needs no graph: the items'
    vectors, the `reach` by which a history becomes a vector, and the average user's.
    """

    trained = True
    divides = False  # a mean over triples, and every step goes over the whole graph
    reads = True
    known: Tensor
    items: Tensor
    reach: Tensor
    average: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.learns = shape.behaviors[-1:]
        self.mix = weights_of(shape.behaviors, config.weights)
        users, items, size = shape.n_users, shape.n_items, config.embedding
        self.user = nn.Parameter(torch.empty(users, size).normal_(0, config.init_std))
        self.item = nn.Parameter(torch.empty(items, size).normal_(0, config.init_std))
        self.graph = Graph(csr_array((users, items), dtype=np.float32))
        self.register_buffer("known", torch.zeros(users, dtype=torch.bool))
        self.register_buffer("items", torch.zeros(items, size))
        self.register_buffer("reach", torch.zeros(items, size))
        self.register_buffer("average", torch.zeros(size))
        self.stale = False  # whether layer 0 has moved since the vectors were last made

    def learn(self, records: Records) -> None:
        x = weighted_sum(records.sets, self.mix)
        self.graph = Graph(x).to(self.user.device)
        self.known = torch.from_numpy(np.diff(x.indptr) > 0).to(self.user.device)
        self.stale = True

    def loss(self, batch: Batch) -> Tensor:
        """Of a batch in which each positive is followed by its negatives."""
        self.check_batch(batch)
        self.stale = True
        u, i, j = triples(batch)
        users, items = LayerMean.apply(self.user, self.item, self.graph, self.config.layers)  # type: ignore[no-untyped-call]
        pairwise = TripleLoss.apply if self.user.is_cpu else pairwise_loss
        loss: Tensor = pairwise(users, items, u, i, j)
        if self.config.l2:
            loss = loss + self.config.l2 / 2 * self._norms(u, i, j) / max(len(u), 1)
        return loss

    def _norms(self, u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """The squares of layer 0, summed as often as triples (T,) meet it."""
        norms = []
        for table, rows in ((self.user, u), (self.item, torch.cat([i, j]))):
            times = torch.bincount(rows, minlength=len(table)).to(table.dtype)
            norms.append(times @ table.square().sum(1))
        return norms[0] + norms[1]

    @torch.no_grad()
    def refresh(self) -> None:
        """Make what scores from layer 0, unless that has not moved since."""
        if not self.stale:
            return
        self.stale = False
        depth = self.config.layers
        users, items = self.graph.sums(self.user, self.item, depth - 1)
        self.reach.copy_(self.graph.item_scale[:, None] * items / (depth + 1))
        self.items.copy_(self.graph.items_above(self.item, users) / (depth + 1))
        users = self.graph.users_above(self.user, items) / (depth + 1)
        weights = self.known.to(users.dtype)
        self.average.copy_(weights @ users / weights.sum().clamp(min=1))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.refresh()
        return super().state_dict(*args, **kwargs)

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) the mean of the user's layers 0 to K, those above 0 from their history.

        A stranger has no layer 0; who has no history is the average user.
        """
        self.check_histories(histories)
        self.refresh()
        index = torch.as_tensor(histories.users, device=self.user.device)
        at = index.clamp(min=0)
        known = ((index >= 0) & self.known[at])[:, None]
        own = torch.where(known, self.user[at] / (self.config.layers + 1), 0)
        x = weighted_sum(histories.items, self.mix)
        lengths = np.diff(x.indptr)
        shares = x.data / np.sqrt(np.repeat(x.sum(1), lengths))
        arrays = (x.indptr, x.indices, shares, lengths > 0)
        *edges, some = (torch.from_numpy(each).to(own.device) for each in arrays)
        reached = weighted_sums((edges[0], edges[1], edges[2]), self.reach)
        return torch.where(some[:, None], own + reached, self.average)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        self.refresh()
        scores = state @ (self.items if items is None else self.items[items]).T
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def item_vectors(self) -> Tensor:
        self.refresh()
        return self.items

    def index_vectors(self) -> Tensor:
        self.refresh()
        return with_bias(self.items)


MODEL = LightGCN
