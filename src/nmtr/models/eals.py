"""eALS: factors by element-wise alternating least squares; what is missing weighs by popularity.

He, Zhang, Kan and Chua, Fast Matrix Factorization for Online Recommendation with Implicit Feedback,
SIGIR 2016. With x_ui the weight of a recorded pair and r_ui = p_u . q_i,

    L = sum_recorded x_ui (1 - r_ui)^2 + sum_missing s_i r_ui^2
        + ridge (sum_u |p_u|^2 + sum_i |q_i|^2)
    s_i = missing f_i^exponent / sum_j f_j^exponent,    f_i = sum_u x_ui

Each coordinate of each vector goes to its best in turn, others held; with sum_i s_i q_i q_i' kept,
at the cost of the records. A user's vector is solved for from their history. Several behaviours
enter as one matrix X, the weighted sum of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from nmtr.data.records import CSR
from nmtr.data.weighted import check_weights, weighted_sum, weights_of
from nmtr.models import vals
from nmtr.models.base import Shape
from nmtr.models.space import Space, Weights


@dataclass(frozen=True)
class Config:
    """eALS's settings.

    missing, exponent: all items together weigh `missing` where a user has no record, each by its
    popularity to this power. init: the vectors' lengths are about this at the start.
    weights: one per behaviour, the target's last; empty for the target alone.
    """

    embedding: int = 64
    sweeps: int = 20
    ridge: float = 10.0
    missing: float = 100.0
    exponent: float = 0.5
    init: float = 0.1
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        vals.check(self)
        check_weights(self.weights)

    def space(self) -> Space:
        return {**vals.SPACE, "weights": Weights(0.01, 3.0, empty=0.0)}


class EALS(vals.VALS):
    """VALS without middle items, over a weighted sum of behaviours."""

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.mix = weights_of(shape.behaviors, config.weights)

    def between(self) -> tuple[np.float32, Any]:
        return np.float32(0), np.zeros(2, np.float32)

    def matrix(self, sets: tuple[CSR, ...]) -> csr_array:
        return weighted_sum(sets, self.mix)


MODEL = EALS
