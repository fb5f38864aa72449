"""NCF: GMF, MLP and NeuMF over the target behaviour alone.

He et al., Neural Collaborative Filtering, WWW 2017:

    GMF    z = h . (p_u * q_i) + b_i
    MLP    z = h . tower([p_u, q_i]) + b_i
    NeuMF  z = (z_GMF + z_MLP) / 2, each with embeddings of its own
    L = - sum over Y+ of log y - sum over Y- of log(1 - y),    y = sigmoid(z)

The item's bias is NMTR's (its eq. 3), not NCF's: the towers are NMTR's first level, so that NMTR
differs by what it adds. For the first `pretrain` epochs NeuMF's towers learn each by a log loss of
its own, as NCF pre-trains them; then both by the one of their mean. L2 is NMTR's.

The model knows the target only: its scores stand for every behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nmtr.data.records import Histories, Records
from nmtr.models import nmtr
from nmtr.models.base import Batch, Folding, Model, Pass, Shape
from nmtr.models.embeddings import Rows, take_rows
from nmtr.models.foldin import LogLossFolding
from nmtr.models.kernels.cascade import CascadeLoss
from nmtr.models.kernels.rows import Levels
from nmtr.models.losses import weighted_log_loss
from nmtr.models.space import Choice, Space
from nmtr.models.strangers import known_users, user_rows
from nmtr.models.towers import first_layers
from nmtr.models.units import gmf_weights, mlps, upper_weights

Taken = tuple[Tensor, Tensor, Tensor]  # the rows of p, q and bias that a batch meets
UnitName = Literal["gmf", "mlp", "neumf"]
TOWERS: dict[UnitName, tuple[UnitName, ...]] = {
    "gmf": ("gmf",),
    "mlp": ("mlp",),
    "neumf": ("gmf", "mlp"),
}


@dataclass(frozen=True)
class Config:
    """NCF's settings: NMTR's less those of its cascade, and NeuMF's `pretrain`."""

    unit: UnitName = "neumf"
    embedding: int = 64
    layers: tuple[int, ...] = (64, 32, 16)
    activation: str = "relu"
    dropout: float = 0.0
    l2: float = 0.0
    mlp_l2: float = 0.0
    mlp_init: Literal["glorot", "agreement"] = "glorot"
    mlp_rate: float = 1.0
    init_std: float = 0.01
    pretrain: int = 0

    def __post_init__(self) -> None:
        if self.pretrain < 0:
            raise ValueError(f"pretrain: expected 0 epochs or more, got {self.pretrain}")
        self.tower(self.unit)

    def tower(self, unit: UnitName) -> nmtr.Config:
        """The settings of one tower; raises ValueError where one is wrong."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        shared = {each.name: named[each.name] for each in fields(nmtr.Config) if each.name in named}
        return nmtr.Config(**{**shared, "unit": unit})

    def space(self) -> Space:
        found = {**self.tower(self.unit).space()}
        del found["lambdas"]
        return found | ({"pretrain": Choice((0, 5))} if self.unit == "neumf" else {})


class NCF(Model):
    """One tower, or NeuMF's two joined, over the target's pairs."""

    trained = True
    probabilistic = True
    known: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.learns = shape.behaviors[-1:]
        alone = Shape(shape.n_users, shape.n_items, self.learns)
        units = TOWERS[config.unit]
        self._towers = nn.ModuleList(nmtr.NMTR(config.tower(unit), alone) for unit in units)
        self.register_buffer("known", torch.zeros(shape.n_users, dtype=torch.bool))
        self._epoch = 0
        self.warm_up = config.pretrain if len(units) > 1 else 0

    @property
    def towers(self) -> list[nmtr.NMTR]:
        return [each for each in self._towers if isinstance(each, nmtr.NMTR)]

    def learn(self, records: Records) -> None:
        self.known = known_users(records.only(self.learns))

    def begin(self, epoch: int) -> None:
        self._epoch = epoch

    def rate_shares(self) -> dict[str, float]:
        return {
            f"_towers.{place}.{name}": share
            for place, each in enumerate(self.towers)
            for name, share in each.rate_shares().items()
        }

    def loss(self, batch: Batch) -> Tensor:
        towers = self.towers
        if len(towers) == 1 or self._epoch < self.config.pretrain:
            return torch.stack([each.loss(batch) for each in towers]).sum()
        return self._joint_loss(batch)

    def adagrad(self, squares: Mapping[str, Tensor], rate: float, epsilon: float) -> Pass | None:
        if len(self.towers) > 1:
            return None
        own = {name.removeprefix("_towers.0."): each for name, each in squares.items()}
        return self.towers[0].adagrad(own, rate, epsilon)

    def _joint_loss(self, batch: Batch) -> Tensor:
        """The log loss of the towers' mean, and each tower's L2."""
        self.towers[0].check_batch(batch)
        users, items = Rows.of(batch.user), Rows.of(batch.item)
        taken = [
            (
                take_rows(each.user, users.indices),
                take_rows(each.item, items.indices),
                take_rows(each.bias, items.indices),
            )
            for each in self.towers
        ]
        drops = self.training and self.config.dropout > 0
        if batch.user.is_cpu and self.config.activation == "relu" and not drops:
            loss = self._fused(taken, users, items, batch)
        else:
            loss = self._plain(taken, users, items, batch)
        norms = torch.stack([users.norms(p) + items.norms(q, bias) for p, q, bias in taken]).sum()
        return loss + self.config.l2 / 2 * norms / max(len(batch), 1) + self._mlp_norm()

    def _plain(self, taken: list[Taken], users: Rows, items: Rows, batch: Batch) -> Tensor:
        """The mean log loss in plain torch, on any device."""
        logits = [
            tower.units[0](tower.dropout(p), q, users.places, items.places)[:, None]
            + F.embedding(items.places, bias)
            for tower, (p, q, bias) in zip(self.towers, taken, strict=True)
        ]
        loss = weighted_log_loss(torch.stack(logits).mean(0), batch.target, batch.weight)
        return loss / max(len(batch), 1)

    def _fused(self, taken: list[Taken], users: Rows, items: Rows, batch: Batch) -> Tensor:
        """The same by NMTR's kernel: halves of GMF's h, of the MLP's, and of the biases."""
        (p, q, bias), (mlp_p, mlp_q, mlp_bias) = taken
        found = mlps(self.towers[1].units)
        upper, last = upper_weights(found, p), self.config.layers[-1]
        upper = torch.cat([upper[:, :-last], upper[:, -last:] / 2], 1)
        met = users.met(), items.met()
        levels = Levels.of(met[0], batch.weight), Levels.of(met[1], batch.weight)
        loss: Tensor = CascadeLoss.apply(  # type: ignore[no-untyped-call]
            p, q, (bias + mlp_bias) / 2, gmf_weights(self.towers[0].units, p) / 2,
            *first_layers([each.tower for each in found], mlp_p, mlp_q, levels), upper, *met,
            levels, batch.target, batch.weight, self.towers[0].lambdas, self.config.layers,
            "none", 0.0,
        )  # fmt: skip
        return loss

    def _mlp_norm(self) -> Tensor | float:
        found = [mlp for tower in self.towers for mlp in mlps(tower.units)]
        weights = [each.square().sum() for mlp in found for each in mlp.parameters()]
        return self.config.mlp_l2 / 2 * torch.stack(weights).sum()

    def encode(self, histories: Histories) -> Tensor:
        """(B, towers * E) user vectors; who has no target record, and a stranger, gets the mean."""
        self.check_histories(histories)
        rows = [user_rows(each.user, self.known, histories.users) for each in self.towers]
        return torch.cat(rows, 1)

    def folding(self, negatives: tuple[int, ...]) -> Folding | None:
        count = negatives[-1]
        shrink = self.config.l2 * (1 + count)
        return LogLossFolding(
            torch.cat([each.user for each in self.towers], 1),
            self.logits_of,
            n_items=self.shape.n_items,
            learns=[self.shape.n_behaviors - 1],
            lambdas=[1.0],
            negatives=[count],
            decay=lambda k, pairs: shrink * pairs,
        )

    def logits_of(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives (1, S) logits of these items for one user's vectors (towers * E,)."""
        towers, size = [each.logits_of(items) for each in self.towers], self.config.embedding

        def logits(state: Tensor) -> Tensor:
            parts = torch.split(state, size)
            return torch.stack([each(p) for each, p in zip(towers, parts, strict=True)]).mean(0)

        return logits

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        return self.score(state, histories, items)[:, None].expand(-1, self.shape.n_behaviors, -1)

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        parts = torch.split(state, self.config.embedding, 1)
        found = [
            each.score(part, histories, items)
            for each, part in zip(self.towers, parts, strict=True)
        ]
        return torch.stack(found).mean(0)

    def item_vectors(self) -> Tensor:
        return torch.cat([each.item_vectors() for each in self.towers], 1)

    def index_vectors(self) -> Tensor | None:
        return self.towers[0].index_vectors() if len(self.towers) == 1 else None


MODEL = NCF
