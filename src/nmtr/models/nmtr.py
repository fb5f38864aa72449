"""NMTR: one embedding per user and item, one interaction unit per behaviour, chained in a cascade.

Gao et al., Neural Multi-Task Recommendation from Multi-Behavior Data, ICDE 2019:

    p_u, q_i shared by all behaviours                                            (2)
    z^1_ui = f^1(p_u, q_i) + b^1_i,    y^r = sigmoid(z^r)                         (3)
    z^r_ui = y^(r-1)_ui + f^r(p_u, q_i) + b^r_i                                   (4)
             or y^r = y^(r-1) sigmoid(f^r + b^r)    with cascade = product
    L = - sum_r lambda_r (sum_(Y_r+) log y^r + sum_(Y_r-) log(1 - y^r))           (5)

L2 is on the rows of a batch: each labelled pair adds l2 / 2 (|p_u|^2 + |q_i|^2 + |b_i|^2), so a
user or item is shrunk as often as it is met. The MLPs' weights are shrunk whole, by mlp_l2 / 2 of
their squares each step: left free, they grow and undo what l2 does to the embeddings. GMF's h is
free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nmtr.data.records import Histories
from nmtr.models.base import Batch, Folding, Model, Pass, Shape
from nmtr.models.cascades import cascade_logits, gmf_adagrad, gmf_loss, indexed, laid_out
from nmtr.models.embeddings import Rows, take_rows
from nmtr.models.foldin import LogLossFolding, Value, each_of
from nmtr.models.kernels.cascade import KINDS, CascadeLoss
from nmtr.models.kernels.pairs import Cascade
from nmtr.models.kernels.rows import Levels, Met
from nmtr.models.losses import LINKS, link, weighted_log_loss
from nmtr.models.space import BATCHES, Space, Weights
from nmtr.models.towers import first_layers
from nmtr.models.units import (
    ACTIVATIONS,
    Unit,
    gmf_weights,
    make_unit,
    mlp_space,
    mlps,
    upper_weights,
)


@dataclass(frozen=True)
class Config:
    """NMTR's settings.

    lambdas: weight of each behaviour's loss, divided by their sum; empty for equal ones.
    l2, mlp_l2: of the rows of a batch, and of the MLPs' own weights.
    dropout: share of the user vector and of each hidden layer dropped in training.
    mlp_init: glorot, or agreement (units.MLP.start_as_agreement), for one layer of 4 E relus.
    mlp_rate: the learning rate of the MLPs' own weights, as a share of the others'.
    """

    unit: Literal["gmf", "mlp", "neumf"] = "gmf"
    cascade: Literal["probability", "logit", "product", "none"] = "probability"
    embedding: int = 64
    layers: tuple[int, ...] = (64, 32, 16)
    activation: str = "relu"
    dropout: float = 0.0
    l2: float = 0.0
    mlp_l2: float = 0.0
    mlp_init: Literal["glorot", "agreement"] = "glorot"
    mlp_rate: float = 1.0
    init_std: float = 0.01
    lambdas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        of_one = {
            "unit": ("gmf", "mlp", "neumf"), "cascade": LINKS, "activation": ACTIVATIONS,
            "mlp_init": ("glorot", "agreement"),
        }  # fmt: skip
        for name, known in of_one.items():
            if (got := getattr(self, name)) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {got!r}")
        if self.embedding < 1 or not self.layers or min(self.layers) < 1:
            raise ValueError(
                f"embedding and layers must be positive, got {self.embedding} and {self.layers}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 <= dropout < 1, got {self.dropout}")
        if not (self.l2 >= 0 and self.mlp_l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                "expected l2 >= 0, mlp_l2 >= 0 and init_std > 0, got "
                f"{self.l2}, {self.mlp_l2} and {self.init_std}"
            )
        agreeing = (4 * self.embedding,), "relu"
        agrees = self.unit != "gmf" and self.mlp_init == "agreement"
        if agrees and (self.layers, self.activation) != agreeing:
            raise ValueError(
                f"mlp_init=agreement: expected one layer of 4 x embedding = {agreeing[0][0]} relu, "
                f"got layers {self.layers}, activation {self.activation}"
            )
        if not 0 < self.mlp_rate < math.inf:
            raise ValueError(f"mlp_rate: expected a positive share, got {self.mlp_rate}")
        if self.lambdas and (min(self.lambdas) < 0 or sum(self.lambdas) <= 0):
            raise ValueError(
                f"lambdas: expected non-negative weights with a positive sum, got {self.lambdas}"
            )

    def space(self) -> Space:
        mlp = {} if self.unit == "gmf" else mlp_space(self.embedding, self.activation)
        return {**BATCHES, **mlp, "lambdas": Weights(0.1, 10.0, empty=1.0)}


class NMTR(Model):
    """The cascade of behaviours over shared embeddings."""

    trained = True
    probabilistic = True
    lambdas: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        if config.lambdas and len(config.lambdas) != shape.n_behaviors:
            raise ValueError(
                f"lambdas: expected {shape.n_behaviors} of them, one for each of "
                f"{', '.join(shape.behaviors)}, got {len(config.lambdas)}"
            )
        self.config: Config = config
        self.kind: str = config.cascade
        self.row_l2 = config.l2
        self.user = nn.Parameter(
            torch.empty(shape.n_users, config.embedding).normal_(0, config.init_std)
        )
        self.item = nn.Parameter(
            torch.empty(shape.n_items, config.embedding).normal_(0, config.init_std)
        )
        self.bias = nn.Parameter(torch.zeros(shape.n_items, shape.n_behaviors))
        sizes = (config.embedding, config.layers, config.activation, config.dropout)
        self.units = nn.ModuleList(make_unit(config.unit, *sizes) for _ in shape.behaviors)
        if config.mlp_init == "agreement":
            for each in mlps(self.units):
                each.start_as_agreement()
        self.dropout = nn.Dropout(config.dropout)
        lambdas = torch.tensor(config.lambdas or [1.0] * shape.n_behaviors, device="cpu")
        self.register_buffer("lambdas", lambdas / lambdas.sum(), persistent=False)

    def pair_logits(self, user: Tensor, item: Tensor) -> Tensor:
        """(B, R) logits of pairs given by their indices (B,), (B,)."""
        levels = self._pair_levels(user, item, torch.full_like(user, self.shape.n_behaviors))
        return torch.stack([logits for _, logits in levels], 1)

    def _pair_levels(
        self, user: Tensor, item: Tensor, depth: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """For each behaviour r, the rows of depth (B,) > r and their logits; most rows need few."""
        users, u = torch.unique(user, return_inverse=True)
        items, i = torch.unique(item, return_inverse=True)
        p, q, bias = self.taken(users, items)
        p = self.dropout(p)
        rows = torch.arange(len(user), device=user.device)
        levels: list[tuple[Tensor, Tensor]] = []
        for r, unit in enumerate(self.units):
            stay = depth[rows] > r
            rows = rows[stay]
            own = unit(p, q, u[rows], i[rows]) + bias[i[rows], r]
            levels.append((rows, link(levels[-1][1][stay], own, kind=self.kind) if levels else own))
        return levels

    def taken(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The vectors of distinct, ascending users and items, and the items' biases."""
        return (
            take_rows(self.user, users),
            take_rows(self.item, items),
            take_rows(self.bias, items),
        )

    def rate_shares(self) -> dict[str, float]:
        own = {id(weight) for each in mlps(self.units) for weight in each.parameters()}
        return {n: self.config.mlp_rate for n, each in self.named_parameters() if id(each) in own}

    def loss(self, batch: Batch) -> Tensor:
        self.check_batch(batch)
        compiled = self.user.is_cpu and self.config.activation == "relu" and self.kind in KINDS
        if compiled and not (self.training and self.config.dropout):
            return self._fused_loss(batch)
        return self.plain_loss(batch)

    def _fused_loss(self, batch: Batch) -> Tensor:
        users = Met.of(batch.user, self.shape.n_users)
        items = Met.of(batch.item, self.shape.n_items)
        p, q, bias = self.taken(torch.from_numpy(users.indices), torch.from_numpy(items.indices))
        towers = [unit.tower for unit in mlps(self.units)]
        widths = self.config.layers if towers else ()
        levels = [Levels.of(each, batch.weight) for each in (users, items)] if towers else None
        loss: Tensor = CascadeLoss.apply(  # type: ignore[no-untyped-call]
            p, q, bias, gmf_weights(self.units, p), *first_layers(towers, p, q, levels),
            upper_weights(mlps(self.units), p), users, items, levels, batch.target, batch.weight,
            self.lambdas, widths, self.kind, self.row_l2,
        )  # fmt: skip
        return loss + self._mlp_norm()

    def adagrad(self, squares: Mapping[str, Tensor], rate: float, epsilon: float) -> Pass | None:
        fits = self.user.is_cpu and self.user.dtype == torch.float32 and self.kind in KINDS
        if type(self).loss is not NMTR.loss or not fits or self.config.dropout or mlps(self.units):
            return None
        how = (self.lambdas, self.kind, self.row_l2, rate, epsilon)
        return gmf_adagrad(self.check_batch, dict(self.named_parameters()), squares, *how)

    def plain_loss(self, batch: Batch, lambdas: Tensor | None = None) -> Tensor:
        """The loss in plain torch, on any device, for any unit."""
        lambdas = self.lambdas if lambdas is None else lambdas
        behaviors = torch.arange(1, self.shape.n_behaviors + 1, device=batch.user.device)
        depth = ((batch.weight != 0) * behaviors).amax(1)
        loss = self.user.new_zeros(())
        for r, (rows, logits) in enumerate(self._pair_levels(batch.user, batch.item, depth)):
            level = weighted_log_loss(logits, batch.target[rows, r], batch.weight[rows, r])
            loss = loss + lambdas[r] * level / max(len(batch), 1)
        loss = loss + self._mlp_norm()
        if self.row_l2:
            users, items = Rows.of(batch.user), Rows.of(batch.item)
            p, q, bias = self.taken(users.indices, items.indices)
            norms = users.norms(p) + items.norms(q, bias)
            loss = loss + self.row_l2 / 2 * norms / max(len(batch), 1)
        return loss

    def _mlp_norm(self) -> Tensor | float:
        """mlp_l2 / 2 of the squares of the MLPs' own weights."""
        weights = [each.flatten() for mlp in mlps(self.units) for each in mlp.parameters()]
        if not (self.config.mlp_l2 and weights):
            return 0.0
        return self.config.mlp_l2 / 2 * torch.cat(weights).square().sum()

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) user vectors; a stranger gets the mean one."""
        self.check_histories(histories)
        users = torch.as_tensor(histories.users, device=self.user.device)
        rows = self.user[users.clamp(min=0)]
        if bool((users >= 0).all()):  # the mean costs as much as all users
            return rows
        return torch.where((users >= 0)[:, None], rows, self.user.mean(0))

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        return torch.stack(list(self._levels(state, items)), 1)

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        return list(self._levels(state, items))[-1]

    def item_vectors(self) -> Tensor:
        """(N, any) what the target's unit makes of an item alone: h * q, and W q of an MLP."""
        target = self.units[-1:]
        made = gmf_weights(target, self.item)
        _, first = first_layers([each.tower for each in mlps(target)], self.item[:0], self.item)
        return torch.cat([self.item * made, first] if made.shape[1] else [first], 1)

    def index_vectors(self) -> Tensor | None:
        return indexed(self._units(), self.item, self.bias, self.kind)

    def cascade(self, state: Tensor, like: Cascade | None = None) -> Cascade | None:
        compiled = self.user.is_cpu and self.config.activation == "relu"
        if not (compiled and self.kind == "probability" and self.shape.n_behaviors > 1):
            return None
        widths = self.config.layers if mlps(self.units) else ()
        return laid_out(self._units(), state, self.item, self.bias, widths, like)

    def folding(self, negatives: tuple[int, ...]) -> Folding:
        counts = each_of(negatives, self.shape.n_behaviors)
        shrink = self.config.l2 * (1 + max(counts))  # a recorded pair brings its negatives
        return LogLossFolding(
            self.user,
            self.logits_of,
            n_items=self.shape.n_items,
            learns=range(self.shape.n_behaviors),
            lambdas=self.lambdas.tolist(),
            negatives=counts,
            decay=lambda k, pairs: shrink * pairs,
            loss=self._gmf_loss if self.kind in KINDS and not mlps(self.units) else None,
        )

    def logits_of(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives (R, S) logits of these items for one user's vector (E,)."""
        return cascade_logits(self._units(), self.item[items], self.bias[items], self.kind)

    def _gmf_loss(self, items: Any, target: Any, weight: Any) -> Value:
        h = gmf_weights(self.units, self.item)
        return gmf_loss(self.item, self.bias, h, self.kind, items, target, weight)

    def _units(self) -> list[Unit]:
        return [unit for unit in self.units if isinstance(unit, Unit)]

    def _levels(self, state: Tensor, items: Tensor | None) -> list[Tensor]:
        """The R blocks of logits (B, N), lowest behaviour first."""
        q = self.item if items is None else self.item[items]
        bias = self.bias if items is None else self.bias[items]
        levels: list[Tensor] = []
        for r, unit in enumerate(self._units()):
            own = unit.block(state, q) + bias[:, r]
            levels.append(link(levels[-1], own, kind=self.kind) if levels else own)
        return levels


MODEL = NMTR
