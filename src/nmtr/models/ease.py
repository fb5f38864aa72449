"""EASE: an item's score is a weighted sum over the user's other items, by ridge regression.

Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019. With X (M, N) the records,

    minimise |X - X B|^2 + ridge |B|^2 over B (N, N) with a zero diagonal              (2)
    P = (X'X + ridge I)^-1,    B_ij = - P_ij / P_jj for i != j                          (8)

Several behaviours enter as one matrix X, the weighted sum of theirs, in learning and in scoring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import spotrf, spotri
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag

from nmtr.data.records import Histories, Records
from nmtr.data.weighted import average_row, check_weights, weighted_sum, weights_of
from nmtr.errors import UsageError
from nmtr.models.base import Model, Shape
from nmtr.models.space import Range, Space, Weights

MOST_ITEMS = 40_000
BLOCK = 1024  # columns of the Gram matrix made at once
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """EASE's settings.

    ridge: the L2 penalty, in records (lambda in the paper).
    weights: one per behaviour, the target's last; empty for the target alone.
    """

    ridge: float = 200.0
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.ridge > 0:  # a NaN is not
            raise ValueError(f"ridge: expected a number above 0, got {self.ridge}")
        check_weights(self.weights)

    def space(self) -> Space:
        return {"ridge": Range(5.0, 5000.0, log=True), "weights": Weights(0.01, 3.0, empty=0.0)}


class Ease(Model):
    """One linear model over items, learned in closed form; every behaviour gets the same score.

    Users are met by their histories alone; one who has none is scored as the average user.
    """

    reads = True
    between: Tensor
    average: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        n = shape.n_items
        if n > MOST_ITEMS:
            raise ValueError(
                f"expected at most {MOST_ITEMS:,} items, got {n:,}: the matrix between items would "
                f"take {n * n * 4 / 1e9:.1f} GB and {n**3 / 1e12:,.0f} TFLOP; keep fewer items, or "
                "use itemknn or ials"
            )
        self.config: Config = config
        self.mix = weights_of(shape.behaviors, config.weights)
        self.register_buffer("between", torch.zeros(n, n))
        self.register_buffer("average", torch.zeros(n))

    def learn(self, records: Records) -> None:
        x = weighted_sum(records.sets, self.mix)
        met = np.flatnonzero(np.bincount(x.indices, minlength=x.shape[1]))  # the others' B is 0
        whole: Floats = self.between.numpy()
        all_met = len(met) == len(whole)
        b = whole if all_met else np.empty((len(met), len(met)), np.float32)
        _gram(x if all_met else x[:, met], out=b)
        np.fill_diagonal(b, b.diagonal() + self.config.ridge)
        _invert(b)
        b /= -b.diagonal()
        np.fill_diagonal(b, 0)
        if not all_met:
            whole[:] = 0
            whole[np.ix_(met, met)] = b
        self.average = self._scores(average_row(x))[0]

    def encode(self, histories: Histories) -> Tensor:
        """(B, N) the user's scores."""
        self.check_histories(histories)
        x = weighted_sum(histories.items, self.mix)
        known = torch.from_numpy(np.diff(x.indptr) > 0).to(self.average.device)
        return torch.where(known[:, None], self._scores(x), self.average)

    def _scores(self, x: csr_array) -> Tensor:
        """(rows, N) x B for records x (rows, N)."""
        indices, indptr, values = (
            torch.from_numpy(each).to(self.between.device) for each in (x.indices, x.indptr, x.data)
        )
        return embedding_bag(
            indices, self.between, indptr,
            mode="sum", per_sample_weights=values, include_last_offset=True,
        )  # fmt: skip

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state if items is None else state[:, items]
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def alike(self, items: Tensor) -> Tensor:
        """(n, N) the weights B that records of `items` have for all items."""
        return self.between[items]


def _gram(x: csr_array, *, out: Floats) -> None:
    """X'X (N, N), a block of columns at a time: what is sparse takes more memory than `out`."""
    left, right = x.T.tocsr(), x.tocsc()
    for start in range(0, x.shape[1], BLOCK):
        out[:, start : start + BLOCK] = (left @ right[:, start : start + BLOCK]).toarray()


def _invert(a: Floats) -> None:
    """Invert a symmetric, positive definite matrix (N, N) in place, by Cholesky."""
    factor, failed = spotrf(a.T, lower=1, clean=0, overwrite_a=1)  # LAPACK's order is Fortran's
    if failed:
        raise UsageError("ease: the ridge is too small to solve for in single precision; raise it")
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    upper = inverse.T
    for start in range(0, len(a), BLOCK):
        stop = start + BLOCK
        a[start:stop, start:] = upper[start:stop, start:]
        corner = np.triu(a[start:stop, start:stop])
        a[start:stop, start:stop] = corner + np.triu(corner, 1).T
        a[stop:, start:stop] = a[start:stop, stop:].T


MODEL = Ease
