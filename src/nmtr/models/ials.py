"""iALS: a factor for each user and item, by alternating least squares over all pairs.

Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008, as
Rendle, Krichene, Zhang and Koren tune it in Revisiting the Performance of iALS on Item
Recommendation Benchmarks, RecSys 2022 (arXiv 2110.14037). With x_ui the weight of a recorded pair,

    L = sum_recorded x_ui (w_u.h_i - 1)^2 + alpha0 sum_all (w_u.h_i)^2
        + ridge sum_u f_u |w_u|^2 + ridge sum_i f_i |h_i|^2
    f_u = (sum_i x_ui + alpha0 N)^nu,    f_i = (sum_u x_ui + alpha0 M)^nu

Each half of a sweep solves one side exactly: (sum_i x_ui h_i h_i' + alpha0 H'H + ridge f_u I) w_u =
sum_i x_ui h_i. Users are always met by that equation, so that a user's vector follows from their
history alone (fold-in). Several behaviours enter as one matrix X, the weighted sum of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from nmtr.data.records import Histories, Records
from nmtr.data.weighted import check_weights, weighted_sum, weights_of
from nmtr.errors import UsageError
from nmtr.models.base import Model, Shape
from nmtr.models.embeddings import with_bias
from nmtr.models.kernels.ials import conjugate_gradients
from nmtr.models.space import Range, Space, Weights

BLOCK_CELLS = 1_000_000  # numbers gathered at once: 4 MB of float32


@dataclass(frozen=True)
class Config:
    """iALS's settings.

    ridge, alpha0, nu: lambda in the paper, the weight of a pair without a record, and how much more
    those with many records are shrunk (1: as in stochastic descent, 0: all alike).
    init: the first items' lengths are about this.
    weights: one per behaviour, the target's last; empty for the target alone.
    """

    embedding: int = 128
    sweeps: int = 16
    ridge: float = 0.02
    alpha0: float = 0.02
    nu: float = 1.0
    init: float = 0.1
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.embedding < 1 or self.sweeps < 1:
            raise ValueError(
                f"embedding and sweeps must be positive, got {self.embedding} and {self.sweeps}"
            )
        if not (self.ridge > 0 and self.alpha0 > 0 and self.init > 0):  # a NaN is not
            raise ValueError(
                "expected ridge, alpha0 and init above 0, got "
                f"{self.ridge}, {self.alpha0} and {self.init}"
            )
        if not 0 <= self.nu <= 1:
            raise ValueError(f"nu: expected 0 <= nu <= 1, got {self.nu}")
        check_weights(self.weights)

    def space(self) -> Space:
        return {
            "ridge": Range(1e-4, 1.0, log=True),
            "alpha0": Range(1e-4, 1.0, log=True),
            "nu": Range(0.0, 1.0, least=0.0, most=1.0),
            "weights": Weights(0.01, 3.0, empty=0.0),
        }


class IALS(Model):
    """Item factors, and users solved for from their histories; one score for every behaviour.

    A user who has no history is scored as the average user.
    """

    reads = True
    item: Tensor
    spread: Tensor
    average: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.mix = weights_of(shape.behaviors, config.weights)
        self.register_buffer("item", torch.zeros(shape.n_items, config.embedding))
        self.register_buffer("spread", torch.zeros(config.embedding))
        self.register_buffer("average", torch.zeros(config.embedding))

    def learn(self, records: Records) -> None:
        x = weighted_sum(records.sets, self.mix)
        transposed = x.T.tocsr()
        item = torch.empty_like(self.item).normal_(0, self.config.init / self.item.shape[1] ** 0.5)
        for _ in range(self.config.sweeps):
            user = self._solve(x, *self._turn(item))
            item = self._solve(transposed, *self._turn(user))
        self.item, self.spread = self._turn(item)
        user = self._solve(x, self.item, self.spread)
        self.average = user.sum(0) / max(int(np.count_nonzero(np.diff(x.indptr))), 1)

    def _turn(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Factors F (n, E) turned so that alpha0 F'F is diagonal, and that diagonal (E,).

        The other side is then solved for in the turned space; products, and so L, stay as they are.
        """
        values, vectors = torch.linalg.eigh((factors.T @ factors).double())
        return factors @ vectors.float(), self.config.alpha0 * values.clamp(min=0).float()

    def _solve(self, x: csr_array, other: Tensor, spread: Tensor) -> Tensor:
        """(rows, E) the best factors for x (rows, n), given its columns' (n, E), turned."""
        weight = x.sum(1) + self.config.alpha0 * x.shape[1]
        shrink = (self.config.ridge * weight**self.config.nu).astype(np.float32)
        if not other.is_cpu:
            return self.solve_exactly(x, other, spread, shrink)
        found, solved = conjugate_gradients(x, other.numpy(), spread.numpy(), shrink)
        result = torch.from_numpy(found)
        if not solved.all():
            hard = np.flatnonzero(~solved)
            result[hard] = self.solve_exactly(x[hard], other, spread, shrink[hard])
        return result

    def solve_exactly(
        self, x: csr_array, other: Tensor, spread: Tensor, shrink: npt.NDArray[np.float32]
    ) -> Tensor:
        """The same by Cholesky, on any device.

        With S the rows of sqrt(x_ui) h_i of one user, d = spread + ridge f_u and s = sqrt(x_u), a
        user of many records is solved for in E unknowns, (S'S + diag d) w = S's, one of few in as
        many as their records: w = diag(1/d) S'c with (S diag(1/d) S' + I) c = s.
        """
        size, device = other.shape[1], other.device
        of_rows = torch.from_numpy(shrink).to(device)
        found = other.new_zeros(x.shape[0], size)
        for rows, index, value in _padded(x, size):
            d = spread + of_rows[rows, None]
            s = value.to(device).sqrt()[:, :, None]
            met = other[index] * s
            if index.shape[1] < size:
                over = met / d[:, None]
                left = over @ met.mT
                left.diagonal(dim1=1, dim2=2).add_(1)
                found[rows] = (over.mT @ _cholesky_solve(left, s))[:, :, 0]
            else:
                left = met.mT @ met
                left.diagonal(dim1=1, dim2=2).add_(d)
                found[rows] = _cholesky_solve(left, met.mT @ s)[:, :, 0]
        return found

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) users' factors."""
        self.check_histories(histories)
        x = weighted_sum(histories.items, self.mix)
        known = torch.from_numpy(np.diff(x.indptr) > 0).to(self.item.device)
        return torch.where(known[:, None], self._solve(x, self.item, self.spread), self.average)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state @ (self.item if items is None else self.item[items]).T
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def item_vectors(self) -> Tensor:
        return self.item

    def index_vectors(self) -> Tensor:
        return with_bias(self.item)


def _cholesky_solve(left: Tensor, right: Tensor) -> Tensor:
    """Solve positive definite systems (b, n, n) for (b, n, 1)."""
    factor, failed = torch.linalg.cholesky_ex(left)
    if failed.any():
        raise UsageError("ials: the ridge is too small to solve for in single precision; raise it")
    return torch.cholesky_solve(right, factor)


def _padded(x: csr_array, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of about one length together: rows (b,), their columns (b, l) and values (b, l).

    A shorter row is filled up with column 0 at value 0; empty rows are left out.
    """
    lengths = np.diff(x.indptr)
    order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    stop = len(order)
    while stop > 0:
        longest = int(lengths[order[stop - 1]])
        start = max(0, stop - max(1, BLOCK_CELLS // (size * longest)))
        rows = order[start:stop]
        filled = np.arange(longest) < lengths[rows, None]
        at = np.where(filled, x.indptr[rows, None] + np.arange(longest), 0)
        index, value = np.where(filled, x.indices[at], 0), np.where(filled, x.data[at], 0)
        yield torch.from_numpy(rows), torch.from_numpy(index), torch.from_numpy(value)
        stop = start


MODEL = IALS
