"""A random walk with restart, one behaviour's graph after the other: nothing is trained.

As in ItemRank (Gori and Pucci, IJCAI 2007) and P3 (Cooper et al., WWW 2014) a step goes from an
item to one of its users and on to one of their items, T^r = D_i^-1 X^r' D_u^-1 X^r with X^r (M, N)
the records of behaviour r and D the degrees; where an item has no record the walk stays. That of
behaviour r starts from the user's own records x^r, or from where the walk of the behaviour below
has come to, its prior:

    s^r = w_r x^r_u / |x^r_u| + pi^(r-1),    pi^0 = 0,    pi^r = a_K of
    a_0 = s^r,    a_(k+1) = restart s^r + (1 - restart) a_k T^r
    score_ui = pi^R_ui / (1 + d^R_i)^penalty,    d^R_i the users with a target record of i

All of it is linear in x, so that a table for each behaviour says what a record leads to, of each
item the `k` best cells. The penalty is RP3beta's (Paudel et al., TiiS 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array, hstack
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.weighted import average_row, check_weights
from nmtr.models.base import Model, Shape
from nmtr.models.graph import Edges, weighted_sums
from nmtr.models.neighbours import table_sums
from nmtr.models.space import Range, Space, Weights, Whole

BLOCK_CELLS = 4_000_000  # users and items times walks that go on at once: 16 MB of float32


@dataclass(frozen=True)
class Config:
    """The walk's settings.

    restart: the chance of a step to go back to where the walk started. steps: K, of each behaviour.
    penalty: what popular items lose. k: cells kept of each item and behaviour.
    weights: of the behaviours' own records, the target's last; empty for 0.5 to the power of the
    levels below it.
    """

    restart: float = 0.5
    steps: int = 3
    penalty: float = 0.0
    k: int = 500
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.restart < 1:
            raise ValueError(f"restart: expected a chance from 0 to below 1, got {self.restart}")
        if self.steps < 1 or self.k < 1:
            raise ValueError(f"steps and k must be positive, got {self.steps} and {self.k}")
        if not 0 <= self.penalty <= 4:  # a NaN is not
            raise ValueError(f"penalty: expected 0 to 4, got {self.penalty}")
        check_weights(self.weights)

    def space(self) -> Space:
        return {
            "restart": Range(0.05, 0.95, least=0.0, most=0.99),
            "steps": Whole(1, 4, most=10),
            "penalty": Range(0.0, 1.0, least=0.0, most=2.0),
            "weights": Weights(0.01, 3.0, empty=0.5),
        }


class Walk(Model):
    """Where walks end; every behaviour gets the target's score.

    Users are met by their histories alone; one who has none is scored as the average user.
    cells, chances: (R, N, k) what a record of an item under a behaviour leads to.
    """

    reads = True
    cells: Tensor
    chances: Tensor
    average: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        n, r = shape.n_items, shape.n_behaviors
        weights = config.weights or tuple(0.5 ** (r - 1 - each) for each in range(r))
        if len(weights) != r:
            raise ValueError(
                f"weights: expected {r} of them, one for each of {', '.join(shape.behaviors)}, "
                f"got {len(weights)}"
            )
        self.mix = weights
        self.k = min(config.k, n)
        self.register_buffer("cells", torch.zeros(r, n, self.k, dtype=torch.int32))
        self.register_buffer("chances", torch.zeros(r, n, self.k))
        self.register_buffer("average", torch.zeros(n))

    def learn(self, records: Records) -> None:
        graphs = [_Graph(each) for each in records.sets]
        shrink = (1 + torch.from_numpy(records.target.column_counts())) ** -self.config.penalty
        n, r = self.shape.n_items, self.shape.n_behaviors
        step = max(1, BLOCK_CELLS // r // (n + records.n_users))
        for low in range(0, n, step):
            high = min(low + step, n)
            for level, ends in enumerate(self._ends(graphs, low, high)):
                best = (ends.T * shrink).float().topk(self.k, dim=1)
                self.cells[level, low:high] = best.indices
                self.chances[level, low:high] = best.values
        self.average = self._scores(average_row(self._starts(records.sets)))[0]

    def _ends(self, graphs: list[_Graph], low: int, high: int) -> list[Tensor]:
        """R times (N, b): where walks end that start under each behaviour from items low, ..."""
        start = torch.zeros(self.shape.n_items, high - low)
        start[torch.arange(low, high), torch.arange(high - low)] = 1
        going = start[:, :0]
        for graph in graphs:
            going = torch.cat([going, start], 1)
            there, back = going, self.config.restart
            for _ in range(self.config.steps):
                there = back * going + (1 - back) * graph.step(there)
            going = there
        return list(torch.split(going, high - low, 1))

    def _starts(self, sets: tuple[CSR, ...]) -> csr_array:
        """(rows, R * N) how much of a walk starts from each record; a row adds up to 1, or to 0."""
        parts = []
        for each, weight in zip(sets, self.mix, strict=True):
            lengths = each.lengths()
            values = np.repeat(weight / np.maximum(lengths, 1), lengths)
            shape = (each.n_rows, each.n_columns)
            parts.append(csr_array((values, each.indices, each.indptr), shape=shape))
        x = csr_array(hstack(parts, format="csr"))
        x.eliminate_zeros()
        total = x.sum(1)
        x.data /= np.repeat(np.where(total > 0, total, 1), np.diff(x.indptr))
        return x.astype(np.float32)

    def _scores(self, x: csr_array) -> Tensor:
        """(rows, N) the scores of walks that start from x (rows, R * N)."""
        cells, chances = self.cells.flatten(0, 1), self.chances.flatten(0, 1)
        return table_sums(cells, chances, x, self.shape.n_items)

    def encode(self, histories: Histories) -> Tensor:
        """(B, N) the user's scores."""
        self.check_histories(histories)
        x = self._starts(histories.items)
        known = torch.from_numpy(x.sum(1) > 0).to(self.average.device)
        return torch.where(known[:, None], self._scores(x), self.average)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state if items is None else state[:, items]
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def alike(self, items: Tensor) -> Tensor:
        """(n, N) what a target record of each item leads to."""
        rows = torch.zeros(len(items), self.shape.n_items, device=items.device)
        return rows.scatter_(1, self.cells[-1, items].long(), self.chances[-1, items])


class _Graph:
    """Steps over the records of one behaviour."""

    def __init__(self, pairs: CSR) -> None:
        users, items = pairs.lengths(), pairs.column_counts()
        shape = (pairs.n_rows, pairs.n_columns)
        ones = np.ones(pairs.nnz, np.float32)
        x = csr_array((ones, pairs.indices, pairs.indptr), shape=shape)
        self.to_users = _edges(x, (1 / np.maximum(items, 1))[x.indices])
        back = x.T.tocsr()
        self.to_items = _edges(back, (1 / np.maximum(users, 1))[back.indices])
        self.stays = torch.from_numpy(items == 0).float()[:, None]

    def step(self, at: Tensor) -> Tensor:
        """(N, b) where walks at `at` (N, b) are one step later."""
        return weighted_sums(self.to_items, weighted_sums(self.to_users, at)) + self.stays * at


def _edges(x: csr_array, weights: npt.NDArray[np.float64]) -> Edges:
    arrays = (x.indptr.astype(np.int64), x.indices.astype(np.int64), weights.astype(np.float32))
    starts, columns, values = (torch.from_numpy(each) for each in arrays)
    return starts, columns, values


MODEL = Walk
