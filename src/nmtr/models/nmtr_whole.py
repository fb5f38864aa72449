"""NMTR without sampling: a squared loss over all pairs of users and items, for every behaviour.

Chen et al., Efficient Heterogeneous Collaborative Filtering without Negative Sampling for
Recommendation, AAAI 2020 (EHCF). Vectors are shared, and the prediction layer of a behaviour is
made of the one below (linear transfer):

    y^r_ui = h^r . (p_u * q_i),    h^r = W^r h^(r-1) + c^r    (transfer = none: h^r on its own)
    L = sum_r lambda_r (sum_(Y_r) (1 - y^r)^2 + missing sum_(all pairs but Y_r) (y^r)^2)
        + l2 / 2 of the squares of p_u and q_i, once for each recorded pair

A batch is all records of some users, U, and stands for all of U x N. With Gram matrices that costs
the records and no more, since

    sum_(u in U) sum_i (y^r)^2 = h^r' (P_U' P_U * Q' Q) h^r

where * is by elements; what Y_r has is then taken out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nmtr.data.records import Histories, Records
from nmtr.models.base import Batch, Folding, Model, Shape
from nmtr.models.embeddings import Rows, take_rows
from nmtr.models.space import Choice, Range, Space, Weights, Whole
from nmtr.models.strangers import known_users, user_rows


@dataclass(frozen=True)
class Config:
    """The settings of NMTR without sampling.

    missing: what a pair without a record weighs, one with it being 1.
    transfer: linear, or none for prediction layers that know nothing of each other.
    dropout: share of the user vector that is dropped in training.
    lambdas: weight of each behaviour's loss, divided by their sum; empty for equal ones.
    """

    embedding: int = 64
    missing: float = 0.03
    transfer: Literal["linear", "none"] = "linear"
    dropout: float = 0.0
    l2: float = 0.0
    init_std: float = 0.1
    lambdas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.embedding < 1:
            raise ValueError(f"embedding: expected 1 or more, got {self.embedding}")
        if not (self.missing > 0 and self.l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                "expected missing > 0, l2 >= 0 and init_std > 0, got "
                f"{self.missing}, {self.l2} and {self.init_std}"
            )
        if self.transfer not in ("linear", "none"):
            raise ValueError(f"transfer: expected linear or none, got {self.transfer!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 <= dropout < 1, got {self.dropout}")
        if self.lambdas and not (min(self.lambdas) >= 0 and sum(self.lambdas) > 0):
            raise ValueError(
                f"lambdas: expected non-negative weights with a positive sum, got {self.lambdas}"
            )

    def space(self) -> Space:
        return {
            "missing": Range(1e-3, 0.5, log=True),
            "dropout": Range(0.0, 0.8, least=0.0, most=0.95),
            "l2": Range(1e-5, 0.1, log=True, least=1e-7),
            "learning_rate": Range(0.01, 0.5, log=True),
            "batch_size": Whole(1024, 32_768, log=True),
            "transfer": Choice(("linear", "none")),
            "lambdas": Weights(0.03, 3.0, empty=1.0),
        }


class WholeNMTR(Model):
    """Shared vectors, and prediction layers that follow each other. h: (R or 1, E)."""

    trained = True
    whole = True
    divides = False  # a user's rows belong together
    known: Tensor
    lambdas: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        n, size = shape.n_behaviors, config.embedding
        if config.lambdas and len(config.lambdas) != n:
            raise ValueError(
                f"lambdas: expected {n} of them, one for each of {', '.join(shape.behaviors)}, "
                f"got {len(config.lambdas)}"
            )
        self.config: Config = config
        self.user = nn.Parameter(torch.empty(shape.n_users, size).normal_(0, config.init_std))
        self.item = nn.Parameter(torch.empty(shape.n_items, size).normal_(0, config.init_std))
        linear = config.transfer == "linear"
        self.h = nn.Parameter(torch.ones(1 if linear else n, size))
        above = n - 1 if linear else 0
        self.turn = nn.Parameter(torch.eye(size).repeat(above, 1, 1))
        self.shift = nn.Parameter(torch.zeros(above, size))
        self.register_buffer("known", torch.zeros(shape.n_users, dtype=torch.bool))
        lambdas = torch.tensor(config.lambdas or [1.0] * n, device="cpu")
        self.register_buffer("lambdas", lambdas / lambdas.sum(), persistent=False)

    def learn(self, records: Records) -> None:
        self.known = known_users(records).to(self.user.device)

    def layers(self) -> Tensor:
        """(R, E) the prediction layers, lowest behaviour first."""
        found = list(self.h)
        for turn, shift in zip(self.turn, self.shift, strict=True):
            found.append(turn @ found[-1] + shift)
        return torch.stack(found)

    def loss(self, batch: Batch) -> Tensor:
        """Of all pairs of the users of a batch, which is to hold all their records."""
        self.check_batch(batch)
        users = Rows.of(batch.user)
        p = take_rows(self.user, users.indices)
        dropped = F.dropout(p, self.config.dropout, self.training)
        met = self.item[batch.item]
        h = self.layers()
        y = (dropped[users.places] * met) @ h.T
        recorded = (1 - y).square() - self.config.missing * y.square()
        gram = (dropped.T @ dropped) * (self.item.T @ self.item)
        every = self.config.missing * ((h @ gram) * h).sum(1)
        loss = self.lambdas @ ((batch.target * recorded).sum(0) + every)
        if self.config.l2:
            loss = loss + self.config.l2 / 2 * (users.norms(p) + met.square().sum())
        return loss / max(len(batch), 1)

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) the users' vectors; the mean of the known for whom training did not meet."""
        self.check_histories(histories)
        return user_rows(self.user, self.known, histories.users)

    def folding(self, negatives: tuple[int, ...]) -> Folding:
        """Solves for a user's least loss, which is a linear system; negatives do not matter.

        A user whom training knew is moved by what is new alone: their loss is corrected by its
        slope where they stood.
        """

        def fold(histories: Histories, start: Tensor, before: Histories) -> Tensor:
            rows = []
            for at in range(len(histories)):
                left, right = self._system(histories, at)
                old = (
                    self._system(before, at) if any(len(x.row(at)) for x in before.items) else None
                )
                news = right if old is None else right + old[0] @ start[at] - old[1]
                rows.append(torch.linalg.lstsq(left, news[:, None], driver="gelsd").solution[:, 0])
            return torch.stack(rows)

        return fold

    def _system(self, histories: Histories, at: int) -> tuple[Tensor, Tensor]:
        """(E, E) and (E,): half the curvature of a user's loss, and half its slope at 0, turned."""
        h, w = self.layers(), self.config.missing
        left = (self.item.T @ self.item) * (w * (h.T * self.lambdas) @ h)
        right = torch.zeros_like(h[0])
        rows = [torch.from_numpy(each.row(at)).long() for each in histories.items]
        for row, layer, share in zip(rows, h, self.lambdas, strict=True):
            v = self.item[row] * layer
            left, right = left + share * (1 - w) * v.T @ v, right + share * v.sum(0)
        pairs = len(torch.unique(torch.cat(rows)))
        return left + self.config.l2 / 2 * pairs * torch.eye(len(right)), right

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        q = self.item if items is None else self.item[items]
        return (state[:, None] * self.layers()) @ q.T

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        q = self.item if items is None else self.item[items]
        return (state * self.layers()[-1]) @ q.T

    def item_vectors(self) -> Tensor:
        return self.item * self.layers()[-1]


MODEL = WholeNMTR
