"""Levels of preference, as Multi-Channel BPR draws from them (Loni et al., RecSys 2016).

A pair's level is the highest behaviour that it has a record of; a pair with none is unobserved. A
positive comes from level r with a chance in proportion to w_r |S_r|, and a negative for it from
below: unobserved with chance beta, else from a lower level s, in proportion to w_s |S_s|. Only
levels of which the user has items are drawn from; who has none below gets an unobserved item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmtr.data.records import LabelledPairs, Records


@dataclass(frozen=True)
class Levels:
    """How to draw: the weight w_r of each level, lowest first, and beta."""

    weights: tuple[float, ...]
    beta: float

    def __post_init__(self) -> None:
        if not (self.weights and min(self.weights) >= 0 and 0 < max(self.weights) < np.inf):
            raise ValueError(
                "level_weights: expected non-negative weights of which one is positive, got "
                f"{self.weights}"
            )
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta: expected a chance from 0 to 1, got {self.beta}")

    @classmethod
    def of(cls, weights: tuple[float, ...], beta: float, behaviors: tuple[str, ...]) -> Levels:
        """The weights given, or halves: 1 for the target, 1/2 one level lower, 1/4, ...

        Raises ValueError unless there is one for each behaviour.
        """
        if weights and len(weights) != len(behaviors):
            raise ValueError(
                f"level_weights: expected {len(behaviors)} of them, one for each of "
                f"{', '.join(behaviors)}, got {len(weights)}"
            )
        halves = tuple(0.5**r for r in range(len(behaviors)))[::-1]
        return cls(weights or halves, beta)


@dataclass(frozen=True)
class LevelPairs:
    """Recorded pairs by user and level, laid out for drawing; M users, N items, R levels, P pairs.

    indptr (M * R + 1,), items (P,): the items of user u at level r are row u * R + r.
    seen (P,): the same items, of each user in ascending order, to look up what they have.
    keep (R,): the chance that a pair of level r is a positive in an epoch, w_r / max w.
    odds (R,): w_r |S_r|.
    """

    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    seen: npt.NDArray[np.int32]
    keep: npt.NDArray[np.float64]
    odds: npt.NDArray[np.float64]
    beta: float
    n_items: int

    @classmethod
    def from_records(cls, records: Records, levels: Levels) -> LevelPairs:
        labelled = LabelledPairs.from_records(records)
        n = labelled.n_behaviors
        if len(levels.weights) != n:
            raise ValueError(f"expected {n} weights of levels, got {len(levels.weights)}")
        level = np.zeros(len(labelled.bits), np.int64)
        for r in range(1, n):
            level[labelled.bits >> np.uint32(r) & np.uint32(1) == 1] = r
        rows = labelled.pairs.row_of_each() * n + level
        order = np.argsort(rows, kind="stable")
        indptr = np.zeros(records.n_users * n + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(indptr) - 1), out=indptr[1:])
        weights = np.array(levels.weights)
        seen = np.asarray(labelled.pairs.indices)
        return cls(
            indptr,
            seen[order],
            seen,
            weights / weights.max(),
            weights * np.bincount(level, minlength=n),
            levels.beta,
            records.n_items,
        )

    def drawn(self) -> tuple[Any, Any, Any, Any, Any, float]:
        """What the kernels draw from: indptr, items, seen, keep, odds, beta."""
        return self.indptr, self.items, self.seen, self.keep, self.odds, self.beta

    @property
    def n_levels(self) -> int:
        return len(self.keep)

    @property
    def n_users(self) -> int:
        return (len(self.indptr) - 1) // self.n_levels
