"""VALS: factors by which middle items, met but not chosen, score between positives and the rest.

Ding, Yu, He, Quan, Li, Chua, Jin and Yu, Improving Implicit Recommender Systems with View Data,
IJCAI 2018: eALS (nmtr.models.eals) and a margin on both sides of V_u, the items that user u has an
auxiliary record of and none of the target. With R_u their target items and r_ui = p_u . q_i,

    L = sum_(i in R_u) (1 - r_ui)^2 + sum_(j in neither) s_j r_uj^2
        + c sum_(v in V_u) ( sum_(i in R_u) (gamma1 - r_ui + r_uv)^2
                           + sum_(j in neither) (gamma2 - r_uv + r_uj)^2 )
        + ridge (sum_u |p_u|^2 + sum_i |q_i|^2),        summed over u too

Each coordinate of each vector goes to its best in turn, over all pairs but at the cost of the
records: sums over the rest are kept as those over all items less the user's own, and those over
middle items follow each item as it moves. A user's vector is solved for from their history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.weighted import weighted_sum
from nmtr.models.base import Model, Shape
from nmtr.models.embeddings import with_bias
from nmtr.models.kernels.coordinates import item_rows, user_rows
from nmtr.models.kernels.threads import even_cuts, in_threads
from nmtr.models.space import Range, Space

MOST, TOLERANCE = 64, 1e-4  # passes over a history's coordinates, and the last one's largest step
LEAST = 50_000  # records a thread is worth


@dataclass(frozen=True)
class Config:
    """VALS's settings.

    missing, exponent: s_i = missing f_i^exponent / sum_j f_j^exponent, f_i the item's records, so
    that all items together weigh `missing` where a user has none.
    middle: N c, what a middle item weighs against all others together. gamma1, gamma2: the margins.
    init: the vectors' lengths are about this at the start.
    """

    embedding: int = 64
    sweeps: int = 20
    ridge: float = 10.0
    missing: float = 100.0
    exponent: float = 0.5
    init: float = 0.1
    middle: float = 10.0
    gamma1: float = 0.5
    gamma2: float = 0.2

    def __post_init__(self) -> None:
        check(self)
        if not (0 <= self.middle < math.inf and math.isfinite(self.gamma1 + self.gamma2)):
            raise ValueError(
                "expected middle >= 0 and finite gamma1 and gamma2, got "
                f"{self.middle}, {self.gamma1} and {self.gamma2}"
            )

    def space(self) -> Space:
        return {
            **SPACE,
            "middle": Range(0.1, 1000.0, log=True),
            "gamma1": Range(0.0, 1.0),
            "gamma2": Range(0.0, 1.0),
        }


SPACE: Space = {
    "ridge": Range(0.01, 100.0, log=True),
    "missing": Range(1.0, 1000.0, log=True),
    "exponent": Range(0.0, 1.0, least=0.0, most=1.0),
}


def check(config: Any) -> None:
    """Raise ValueError for what cannot be of the settings that eALS has too."""
    if config.embedding < 1 or config.sweeps < 1:
        raise ValueError(
            f"embedding and sweeps must be positive, got {config.embedding} and {config.sweeps}"
        )
    if not (config.ridge > 0 and config.missing >= 0 and config.init > 0):  # a NaN is neither
        raise ValueError(
            "expected ridge > 0, missing >= 0 and init > 0, got "
            f"{config.ridge}, {config.missing} and {config.init}"
        )
    if not 0 <= config.exponent <= 1:
        raise ValueError(f"exponent: expected 0 <= exponent <= 1, got {config.exponent}")


class VALS(Model):
    """Item vectors, and users solved for from their histories; one score for every behaviour.

    A user who has no history is scored as the average user. X (rows, N) holds a positive's weight,
    and 0 for a middle item.
    """

    reads = True
    item: Tensor
    missing: Tensor
    gram: Tensor
    average: Tensor

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        size = config.embedding
        self.middle, self.margins = self.between()
        self.register_buffer("item", torch.zeros(shape.n_items, size))
        self.register_buffer("missing", torch.zeros(shape.n_items))
        self.register_buffer("gram", torch.zeros(size, size))
        self.register_buffer("average", torch.zeros(size))

    def between(self) -> tuple[np.float32, Any]:
        """The weight of a middle item against each other one, and the margins."""
        margins = np.array([self.config.gamma1, self.config.gamma2], np.float32)
        return np.float32(self.config.middle / self.shape.n_items), margins

    def matrix(self, sets: tuple[CSR, ...]) -> csr_array:
        """(rows, N) of histories or records."""
        every, target = weighted_sum(sets, [1.0] * len(sets)), weighted_sum(sets[-1:], [1.0])
        ours = every + 2.0**10 * target  # past what any middle item has
        ours.data[:] = ours.data > 2.0**9
        return ours

    def learn(self, records: Records) -> None:
        x = self.matrix(records.sets)
        across = x.T.tocsr()
        size = self.config.embedding
        p, q = (torch.empty(n, size).normal_(0, self.config.init / size**0.5) for n in x.shape)
        popular = np.asarray(x.sum(0), np.float64)
        often = np.where(popular > 0, popular**self.config.exponent, 0)
        share = self.config.missing * often / max(float(often.sum()), 1e-30)
        self.missing = torch.from_numpy(share.astype(np.float32))
        middles = np.add.reduceat(np.append(x.data == 0, 0), x.indptr[:-1], dtype=np.int64)
        middles[np.diff(x.indptr) == 0] = 0
        positives = np.diff(x.indptr) - middles
        for _ in range(self.config.sweeps):
            self._set(q)
            self._solve(x, p, 1)
            self._sweep_items(across, x, p, q, positives, middles)
        self._set(q)
        self._solve(x, p, MOST)
        known = torch.from_numpy(np.diff(x.indptr) > 0)
        self.average = p[known].sum(0) / known.sum().clamp(min=1)

    def _set(self, item: Tensor) -> None:
        self.item = item
        self.gram = (item * self.missing[:, None]).T @ item

    def _sweep_items(
        self, across: csr_array, x: csr_array, p: Tensor, q: Tensor, positives: Any, middles: Any
    ) -> None:
        """Move the items q (N, E) in place."""
        rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        middle = x.data == 0
        total = np.zeros((x.shape[0], q.shape[1]), np.float32)
        np.add.at(total, rows[middle], q.numpy()[x.indices[middle]])
        sums = np.einsum("me,me->m", total, p.numpy(), dtype=np.float64)
        item_rows(
            across.indptr, across.indices, across.data, self.missing.numpy(), self.middle,
            self.margins, np.float32(self.config.ridge), p.numpy(), q.numpy(), positives, middles,
            float(self.middle) * sums, sums,
        )  # fmt: skip

    def _solve(self, x: csr_array, p: Tensor, most: int) -> None:
        """Move users p (rows, E) in place to what X (rows, N) asks for."""
        q = self.item
        shared = (self.gram.numpy(), (q.T @ q).numpy(), q.sum(0).numpy(), q.numpy(), p.numpy())
        weights = self.missing.numpy(), self.middle, self.margins, np.float32(self.config.ridge)

        def part(low: int, high: int) -> None:
            given = (x.indptr, x.indices, x.data, *weights)
            user_rows(low, high, *given, *shared, most, np.float32(TOLERANCE))

        threads = max(1, min(torch.get_num_threads(), x.nnz // LEAST))
        middle = np.searchsorted(x.indptr, even_cuts(x.nnz, threads)[1:-1])
        in_threads(part, [0, *middle.tolist(), x.shape[0]])

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) users' vectors."""
        self.check_histories(histories)
        x = self.matrix(histories.items)
        p = torch.zeros(x.shape[0], self.item.shape[1])
        self._solve(x, p, MOST)
        known = torch.from_numpy(np.diff(x.indptr) > 0)
        return torch.where(known[:, None], p, self.average)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state @ (self.item if items is None else self.item[items]).T
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def item_vectors(self) -> Tensor:
        return self.item

    def index_vectors(self) -> Tensor:
        return with_bias(self.item)


MODEL = VALS
