"""CMF: the matrices of all behaviours factorised together, with the items' vectors shared.

Zhao et al., Improving User Topic Interest Profiles by Behavior Factorization, WWW 2015, as Gao et
al. (ICDE 2019) compare with it: a user has a vector for each behaviour, an item one for all:

    z^r_ui = p^r_u . q_i + b^r_i,    y^r = sigmoid(z^r)
    L = - sum_r lambda_r (sum_(Y_r+) log y^r + sum_(Y_r-) log(1 - y^r))

Each labelled pair of behaviour r adds l2 / 2 (|p^r_u|^2 + |q_i|^2 + (b^r_i)^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nmtr.data.records import Histories, Records
from nmtr.models.base import Batch, Folding, Model, Shape
from nmtr.models.embeddings import take_rows, with_bias
from nmtr.models.foldin import LogLossFolding, each_of
from nmtr.models.kernels.cmf import FactorLoss
from nmtr.models.kernels.rows import Met
from nmtr.models.losses import weighted_log_loss
from nmtr.models.space import BATCHES, Space, Weights
from nmtr.models.strangers import known_users, user_rows


@dataclass(frozen=True)
class Config:
    """CMF's settings.

    lambdas: weight of each behaviour's loss, divided by their sum; empty for equal ones.
    """

    embedding: int = 64
    l2: float = 0.0
    init_std: float = 0.01
    lambdas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.embedding < 1:
            raise ValueError(f"embedding: expected 1 or more, got {self.embedding}")
        if not (self.l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                f"expected l2 >= 0 and init_std > 0, got {self.l2} and {self.init_std}"
            )
        if self.lambdas and (min(self.lambdas) < 0 or sum(self.lambdas) <= 0):
            raise ValueError(
                f"lambdas: expected non-negative weights with a positive sum, got {self.lambdas}"
            )

    def space(self) -> Space:
        return {**BATCHES, "lambdas": Weights(0.1, 10.0, empty=1.0)}


class CMF(Model):
    """One vector per user and behaviour, one per item."""

    trained = True
    probabilistic = True
    known: Tensor
    lambdas: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        n = shape.n_behaviors
        if config.lambdas and len(config.lambdas) != n:
            raise ValueError(
                f"lambdas: expected {n} of them, one for each of {', '.join(shape.behaviors)}, "
                f"got {len(config.lambdas)}"
            )
        self.config: Config = config
        size, std = config.embedding, config.init_std
        self.user = nn.Parameter(torch.empty(shape.n_users, n * size).normal_(0, std))
        self.item = nn.Parameter(torch.empty(shape.n_items, size).normal_(0, std))
        self.bias = nn.Parameter(torch.zeros(shape.n_items, n))
        lambdas = torch.tensor(config.lambdas or [1.0] * n, device="cpu")
        self.register_buffer("lambdas", lambdas / lambdas.sum(), persistent=False)
        self.register_buffer("known", torch.zeros(n, shape.n_users, dtype=torch.bool))

    def learn(self, records: Records) -> None:
        self.known = torch.stack([known_users(records.only([each])) for each in self.learns])

    def loss(self, batch: Batch) -> Tensor:
        self.check_batch(batch)
        if not self.user.is_cpu:
            return self.plain_loss(batch)
        users = Met.of(batch.user, self.shape.n_users)
        items = Met.of(batch.item, self.shape.n_items)
        u, i = torch.from_numpy(users.indices), torch.from_numpy(items.indices)
        p, q, bias = take_rows(self.user, u), take_rows(self.item, i), take_rows(self.bias, i)
        places = torch.from_numpy(users.places), torch.from_numpy(items.places)
        rows = (*places, batch.target, batch.weight)
        loss: Tensor = FactorLoss.apply(p, q, bias, *rows, self.lambdas, self.config.l2)  # type: ignore[no-untyped-call]
        return loss

    def plain_loss(self, batch: Batch) -> Tensor:
        """The loss in plain torch, on any device."""
        loss = self.user.new_zeros(())
        for r, table in enumerate(torch.split(self.user, self.config.embedding, 1)):
            rows = batch.weight[:, r].nonzero().squeeze(1)
            user, item = batch.user[rows], batch.item[rows]
            p, q, bias = table[user], self.item[item], self.bias[item, r]
            logits = (p * q).sum(1) + bias
            level = weighted_log_loss(logits, batch.target[rows, r], batch.weight[rows, r])
            norms = p.square().sum() + q.square().sum() + bias.square().sum()
            loss = loss + self.lambdas[r] * level + self.config.l2 / 2 * norms
        return loss / max(len(batch), 1)

    def encode(self, histories: Histories) -> Tensor:
        """(B, R * E) each user's vectors; for a behaviour that they have no record of, the mean."""
        self.check_histories(histories)
        tables = torch.split(self.user, self.config.embedding, 1)
        pairs = zip(tables, self.known, strict=True)
        return torch.cat([user_rows(each, known, histories.users) for each, known in pairs], 1)

    def folding(self, negatives: tuple[int, ...]) -> Folding:
        n, size = self.shape.n_behaviors, self.config.embedding
        counts = each_of(negatives, n)
        shrink = self.config.l2 * (1 + np.array(counts, np.float32))

        def decay(k: npt.NDArray[np.int64], pairs: int) -> npt.NDArray[np.float32]:
            return np.repeat(shrink * k, size).astype(np.float32)

        return LogLossFolding(
            self.user,
            self.logits_of,
            n_items=self.shape.n_items,
            learns=range(n),
            lambdas=self.lambdas.tolist(),
            negatives=counts,
            decay=decay,
        )

    def logits_of(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives (R, S) logits of these items for one user's vectors (R * E,)."""
        across, bias = self.item[items].T.contiguous(), self.bias[items].T
        return lambda state: state.view(self.shape.n_behaviors, -1) @ across + bias

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        q, bias = (each if items is None else each[items] for each in (self.item, self.bias))
        parts = state.view(len(state), self.shape.n_behaviors, -1)
        return parts @ q.T + bias.T

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        q, bias = (each if items is None else each[items] for each in (self.item, self.bias))
        return state[:, -self.config.embedding :] @ q.T + bias[:, -1]

    def item_vectors(self) -> Tensor:
        return self.item

    def index_vectors(self) -> Tensor:
        return with_bias(self.item, self.bias[:, -1])

    def index_queries(self, state: Tensor) -> Tensor:
        return state[:, -self.config.embedding :]


MODEL = CMF
