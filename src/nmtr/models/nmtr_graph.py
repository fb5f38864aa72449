"""NMTR on the graph: vectors smoothed over each behaviour's graph in turn, each from the one below.

Yan et al., Cascading Residual Graph Convolutional Network for Multi-Behavior Recommendation, TOIS
2023 (CRGCN); Cheng et al., Multi-Behavior Recommendation with Cascading Graph Convolution Networks,
WWW 2023 (MB-CGCN). e^0 is learned, of users and of items. With G^r the records of behaviour r, and
LightGCN's layers over it (nmtr.models.lightgcn),

    h^r = the mean of layers 0 to K over G^r from e^(r-1), divided by its length
    e^r = e^(r-1) + h^r
    z^r_ui = e^r_u . e^r_i                                         join = own (CRGCN)
             (sum_(s <= r) e^s_u) . (sum_(s <= r) e^s_i)                  sum (MB-CGCN)
             sum_(s <= r) e^s_u . e^s_i                                   concat
    L = sum_r lambda_r mean over (u, i, j) of log(1 + exp(z^r_uj - z^r_ui)) + l2 / 2 of the squares
        of e^0 of u, i and j,    i an item of u under r, j drawn from the others

The graphs are of the records that training is given, and of no others. A positive is an edge of
them; `hide` leaves a share of the pairs out of all graphs while it learns, other ones each epoch.
e^0 apart, a user's vectors follow from their history: a stranger's are that alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import normalize

from nmtr.data.records import CSR, Histories, LabelledPairs, Records
from nmtr.models.base import Batch, Model, Shape
from nmtr.models.graph import Graph, LayerMean, triples, weighted_sums
from nmtr.models.kernels.triples import TripleLoss
from nmtr.models.losses import pairwise_loss
from nmtr.models.space import Choice, Range, Space, Weights, Whole
from nmtr.models.strangers import known_users

Join = Literal["own", "sum", "concat"]


@dataclass(frozen=True)
class Config:
    """The settings of NMTR on the graph.

    layers: K, how many steps a vector travels over each behaviour's graph.
    join: which levels a behaviour's score is made of.
    l2, init_std: of e^0, for each triple and at the start.
    lambdas: weight of each behaviour's loss, divided by their sum; empty for equal ones. One of
    weight 0 is in the cascade, and is not learned from.
    hide: the share of pairs that an epoch leaves out of the graphs.
    """

    embedding: int = 64
    layers: int = 2
    join: Join = "concat"
    l2: float = 1e-3
    init_std: float = 0.1
    lambdas: tuple[float, ...] = ()
    hide: float = 0.0

    def __post_init__(self) -> None:
        if self.embedding < 1 or self.layers < 1:
            raise ValueError(
                f"embedding and layers must be positive, got {self.embedding} and {self.layers}"
            )
        if self.join not in ("own", "sum", "concat"):
            raise ValueError(f"join: expected own, sum or concat, got {self.join!r}")
        if not (self.l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                f"expected l2 >= 0 and init_std > 0, got {self.l2} and {self.init_std}"
            )
        if self.lambdas and not (min(self.lambdas) >= 0 and sum(self.lambdas) > 0):
            raise ValueError(
                f"lambdas: expected non-negative weights with a positive sum, got {self.lambdas}"
            )
        if not 0 <= self.hide < 1:
            raise ValueError(f"hide: expected a share from 0 to below 1, got {self.hide}")

    def space(self) -> Space:
        return {
            "l2": Range(1e-5, 0.1, log=True, least=1e-7),
            "learning_rate": Range(0.02, 1.0, log=True),
            "batch_size": Whole(8192, 131_072, log=True),  # each step pays for the whole graphs
            "negatives": Whole(1, 8),
            "layers": Whole(1, 4, most=8),
            "join": Choice(("own", "sum", "concat")),
            "lambdas": Weights(0.03, 3.0, empty=1.0),
            "hide": Range(0.0, 0.8, least=0.0, most=0.95),
        }


class GraphNMTR(Model):
    """A cascade of graphs over shared vectors.

    What scores is kept beside what is learned, so that a saved run needs no graph: for each
    behaviour the items' vectors and the `reach` by which a history becomes a vector, and the
    average user's.
    """

    trained = True
    divides = False  # a mean over triples, and every step goes over the whole graphs
    reads = True
    known: Tensor
    items: Tensor
    reach: Tensor
    average: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        n, users, items, size = shape.n_behaviors, shape.n_users, shape.n_items, config.embedding
        if config.lambdas and len(config.lambdas) != n:
            raise ValueError(
                f"lambdas: expected {n} of them, one for each of {', '.join(shape.behaviors)}, "
                f"got {len(config.lambdas)}"
            )
        self.config: Config = config
        weights = config.lambdas or (1.0,) * n
        self.lambdas = [each / sum(weights) for each in weights]
        self.learns = tuple(b for b, weight in zip(shape.behaviors, weights, strict=True) if weight)
        self.user = nn.Parameter(torch.empty(users, size).normal_(0, config.init_std))
        self.item = nn.Parameter(torch.empty(items, size).normal_(0, config.init_std))
        self.seed = int(torch.randint(2**62, ()))  # of what is hidden
        self.graphs = nn.ModuleList()
        self.visible: list[Graph] = []
        self.pairs: LabelledPairs | None = None
        self.register_buffer("known", torch.zeros(users, dtype=torch.bool))
        self.register_buffer("items", torch.zeros(n, items, size))
        self.register_buffer("reach", torch.zeros(n, items, size))
        self.register_buffer("average", torch.zeros(n * size))
        self.stale = False  # whether e^0 has moved since the vectors were last made

    def learn(self, records: Records) -> None:
        self.visible = [self._graph(each) for each in records.sets]
        self.graphs = nn.ModuleList(self.visible)
        self.pairs = LabelledPairs.from_records(records) if self.config.hide else None
        self.known = known_users(records).to(self.user.device)
        self.stale = True

    def _graph(self, pairs: CSR) -> Graph:
        ones, shape = np.ones(pairs.nnz, np.float32), (pairs.n_rows, pairs.n_columns)
        graph = Graph(csr_array((ones, pairs.indices, pairs.indptr), shape=shape))
        return graph.to(self.user.device)

    def begin(self, epoch: int) -> None:
        """Leave other pairs out of the graphs than the epoch before."""
        if self.pairs is None:
            return
        rng = np.random.default_rng((self.seed, epoch))
        keys, stays = self.pairs.pairs.keys(), rng.random(self.pairs.pairs.nnz) >= self.config.hide
        of_each = [self.pairs.bits & np.uint32(1 << r) > 0 for r in range(self.shape.n_behaviors)]
        sizes = self.shape.n_users, self.shape.n_items
        self.visible = [self._graph(CSR.from_keys(keys[stays & has], *sizes)) for has in of_each]

    def loss(self, batch: Batch) -> Tensor:
        """Of a batch in which each positive is followed by its negatives."""
        self.check_batch(batch)
        self.stale = True
        pairwise = TripleLoss.apply if self.user.is_cpu else pairwise_loss
        user: Tensor = self.user
        item: Tensor = self.item
        users: list[Tensor] = []
        items: list[Tensor] = []
        loss = user.new_zeros(())
        for name, weight, graph in zip(
            self.shape.behaviors, self.lambdas, self.visible, strict=True
        ):
            means = LayerMean.apply(user, item, graph, self.config.layers)  # type: ignore[no-untyped-call]
            user, item = user + normalize(means[0]), item + normalize(means[1])
            users.append(user)
            items.append(item)
            if not weight:
                continue
            u, i, j = triples(batch, self.learns.index(name))
            level = pairwise(self._joined(users), self._joined(items), u, i, j)
            if self.config.l2:
                level = level + self.config.l2 / 2 * self._norms(u, i, j) / max(len(u), 1)
            loss = loss + weight * level
        return loss

    def _joined(self, levels: Sequence[Tensor]) -> Tensor:
        """(n, any) what is multiplied for the score of the highest of these levels, (n, E) each."""
        if self.config.join == "sum":
            return torch.stack(list(levels)).sum(0)
        return torch.cat(list(levels), 1) if self.config.join == "concat" else levels[-1]

    def _norms(self, u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """The squares of e^0, summed as often as triples (T,) meet it."""
        norms = []
        for table, rows in ((self.user, u), (self.item, torch.cat([i, j]))):
            times = torch.bincount(rows, minlength=len(table)).to(table.dtype)
            norms.append(times @ table.square().sum(1))
        return norms[0] + norms[1]

    @torch.no_grad()
    def refresh(self) -> None:
        """Make what scores from e^0, unless that has not moved since."""
        if not self.stale:
            return
        self.stale = False
        depth = self.config.layers
        user: Tensor = self.user
        item: Tensor = self.item
        users: list[Tensor] = []
        for r, graph in enumerate(each for each in self.graphs if isinstance(each, Graph)):
            sums = graph.sums(user, item, depth - 1)
            self.reach[r] = graph.item_scale[:, None] * sums[1]
            above = graph.users_above(user, sums[1]), graph.items_above(item, sums[0])
            user, item = user + normalize(above[0]), item + normalize(above[1])
            self.items[r] = item
            users.append(user)
        weights = self.known.to(self.user.dtype)
        self.average.copy_(weights @ torch.cat(users, 1) / weights.sum().clamp(min=1))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.refresh()
        return super().state_dict(*args, **kwargs)

    def encode(self, histories: Histories) -> Tensor:
        """(B, R * E) the user's vectors at each level, from e^0 and their history.

        A stranger has no e^0; who has no history is the average user.
        """
        self.check_histories(histories)
        self.refresh()
        device = self.user.device
        index = torch.as_tensor(histories.users, device=device)
        at = index.clamp(min=0)
        own = torch.where(((index >= 0) & self.known[at])[:, None], self.user[at], 0)
        levels = []
        for reach, met in zip(self.reach, histories.items, strict=True):
            lengths = met.lengths()
            shares = np.repeat(lengths, lengths).astype(np.float32) ** -0.5
            starts, items, values = (
                torch.from_numpy(each).to(device) for each in (met.indptr, met.indices, shares)
            )
            own = own + normalize(own + weighted_sums((starts, items.long(), values), reach))
            levels.append(own)
        some = torch.from_numpy(sum(each.lengths() for each in histories.items) > 0).to(device)
        return torch.where(some[:, None], torch.cat(levels, 1), self.average)

    def _behavior(self, r: int, state: Tensor, items: Tensor | None) -> Tensor:
        """(B, N) the scores of one behaviour."""
        vectors = self.items if items is None else self.items[:, items]
        users = state.view(len(state), self.shape.n_behaviors, -1).unbind(1)
        return self._joined(users[: r + 1]) @ self._joined(list(vectors[: r + 1])).T

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        self.refresh()
        return torch.stack(
            [self._behavior(r, state, items) for r in range(self.shape.n_behaviors)], 1
        )

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        self.refresh()
        return self._behavior(self.shape.n_behaviors - 1, state, items)

    def item_vectors(self) -> Tensor:
        self.refresh()
        return self._joined(list(self.items))


MODEL = GraphNMTR
