"""NMTR with attributes: fields of users and items in the embeddings, as the paper's III.A has it.

One-hot ids may be joined by one-hot attributes, of which the embedding layer then takes the sum.
With F_u and F_i the fields that u and i have, each the mean of its values' embeddings,

    p_u = own_u + sum_(f in F_u) e_f,    q_i = own_i + sum_(f in F_i) e_f,
    b_i = own_i + sum_(f in F_i) b_f                        and all else as nmtr.models.nmtr has it

Who training does not meet, and what it does not, has no part of its own: the fields' sum stands for
a cold user or item alone, and a cold item is nobody's negative, so that it is not learnt to be bad.
L2 shrinks own vectors towards nothing, that is, sums towards what the fields say: as often as a
batch meets them; the fields' once a batch; biases are free. What scores is kept beside what is
learned: a saved run needs no attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nmtr.data.features import Fields
from nmtr.data.records import Histories, Records
from nmtr.models import nmtr
from nmtr.models.base import Batch, Folding, Shape
from nmtr.models.embeddings import Rows, take_rows
from nmtr.models.strangers import known_users

TABLES = ("user", "item", "bias")


@dataclass(frozen=True)
class Config(nmtr.Config):
    """NMTR's settings; l2 is of the own vectors and of the fields'."""


class FeaturedNMTR(nmtr.NMTR):
    """The cascade over sums of embeddings."""

    describes = True
    divides = False  # the norms of the fields are each batch's, not each row's
    own_user: nn.Parameter
    own_item: nn.Parameter
    own_bias: nn.Parameter
    cold_user: Tensor
    cold_item: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.row_l2 = 0.0
        users, items = shape.features.users, shape.features.items
        self.fields = (users or _none(shape.n_users), items or _none(shape.n_items))
        for name in TABLES:
            table = getattr(self, name)
            delattr(self, name)
            self.register_parameter(f"own_{name}", table)
            self.register_buffer(name, table.detach().clone())
        widths, size = [each.n_columns for each in self.fields], config.embedding
        std = config.init_std
        self.of_user = nn.Parameter(torch.empty(widths[0], size).normal_(0, std))
        self.of_item = nn.Parameter(torch.empty(widths[1], size).normal_(0, std))
        self.of_bias = nn.Parameter(torch.zeros(widths[1], shape.n_behaviors))
        self.register_buffer("cold_user", torch.zeros(shape.n_users, dtype=torch.bool))
        self.register_buffer("cold_item", torch.zeros(shape.n_items, dtype=torch.bool))
        self.stale = False  # whether the sums have yet to follow what is learned

    def learn(self, records: Records) -> None:
        known = known_users(records).numpy(), records.seen().column_counts() > 0
        cold = [
            torch.from_numpy(fields.described() & ~met).to(self.user.device)
            for fields, met in zip(self.fields, known, strict=True)
        ]
        self.cold_user, self.cold_item = cold
        self.stale = True

    def taken(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            take_rows(self.own_user, users) + self._sums(0, self.of_user, users),
            take_rows(self.own_item, items) + self._sums(1, self.of_item, items),
            take_rows(self.own_bias, items) + self._sums(1, self.of_bias, items),
        )

    def _sums(self, side: int, table: Tensor, rows: Tensor) -> Tensor:
        """(n, any) the sums of the fields of rows (n,); side: 0 for users, 1 for items."""
        if not len(table):
            return table.new_zeros(len(rows), table.shape[1])
        part = self.fields[side].take(rows.cpu().numpy())
        arrays = (part.columns, part.indptr, part.weights)
        columns, starts, weights = (torch.from_numpy(each).to(table.device) for each in arrays)
        return F.embedding_bag(
            columns, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
        )

    def loss(self, batch: Batch) -> Tensor:
        self.check_batch(batch)
        self.stale = True
        met = ~self.cold_item[batch.item]
        loss = super().loss(replace(batch, weight=batch.weight * met[:, None]))
        return loss + self.config.l2 / 2 * self._own_norms(batch) / max(len(batch), 1)

    def _own_norms(self, batch: Batch) -> Tensor:
        """The squares of own parts, as often as the batch meets them, and of the fields' once."""
        users, items = Rows.of(batch.user), Rows.of(batch.item)
        own = users.norms(take_rows(self.own_user, users.indices)) + items.norms(
            take_rows(self.own_item, items.indices)
        )
        tables = (self.of_user, self.of_item, self.of_bias)
        return own + torch.stack([each.square().sum() for each in tables]).sum()

    @torch.no_grad()
    def refresh(self) -> None:
        """Make what scores from what is learned, unless that has not moved since."""
        if not self.stale:
            return
        self.stale = False
        for name, side, cold in zip(TABLES, (0, 1, 1), self._cold(), strict=True):
            own, table = getattr(self, f"own_{name}"), getattr(self, f"of_{name}")
            rows = torch.arange(len(own), device=own.device)
            sums = self._sums(side, table, rows)
            getattr(self, name).copy_(torch.where(cold[:, None], 0, own) + sums)

    def _cold(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.cold_user, self.cold_item, self.cold_item

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) user vectors; a stranger gets the mean one."""
        self.refresh()
        return super().encode(histories)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        self.refresh()
        return super().score_behaviors(state, histories, items)

    def item_vectors(self) -> Tensor:
        self.refresh()
        return super().item_vectors()

    def index_vectors(self) -> Tensor | None:
        self.refresh()
        return super().index_vectors()

    def folding(self, negatives: tuple[int, ...]) -> Folding:
        self.refresh()
        return super().folding(negatives)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.refresh()
        return super().state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Without attributes at hand, tables of fields take the sizes that come."""
        for name, fields in zip(TABLES, (*self.fields, self.fields[1]), strict=True):
            key = f"of_{name}"
            if not fields.n_columns and key in state_dict:
                setattr(self, key, nn.Parameter(torch.empty_like(state_dict[key])))
        self.stale = False
        return super().load_state_dict(state_dict, strict, assign)


def _none(rows: int) -> Fields:
    return Fields(np.zeros(rows + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), 0)


MODEL = FeaturedNMTR
