"""Groups of users by how active they were: does a model help those of whom little is known?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Group:
    """Users with low..high records of the target in training; rows: their places."""

    low: int
    high: int
    rows: npt.NDArray[np.int64]

    @property
    def name(self) -> str:
        return f"{self.low}-{self.high}" if self.low < self.high else str(self.low)


def by_activity(
    counts: npt.NDArray[np.integer], *, groups: int = 5, first: tuple[int, int] | None = None
) -> list[Group]:
    """Cut users, by their number of records (U,), into groups of about equal size.

    A count is never cut in two, so there may be fewer groups than asked for. first: bounds of the
    first group ((5, 8) in the paper's figure 2); users below it are left out, and the others are
    cut into `groups` - 1. Raises ValueError for fewer than one group.
    """
    if groups < 1 + (first is not None):
        raise ValueError(f"groups: expected at least {1 + (first is not None)}, got {groups}")
    found: list[Group] = []
    rest = np.arange(len(counts))
    if first:
        found += _group(counts, rest[(counts >= first[0]) & (counts <= first[1])])
        rest = rest[counts > first[1]]
        groups -= 1
    values, times = np.unique(counts[rest], return_counts=True)
    reached = np.cumsum(times)
    # Each bound is the count whose cumulative share is nearest to a whole part.
    shares = reached[-1] * np.arange(1, groups) / groups if len(reached) else np.zeros(0)
    cuts = sorted({int(np.abs(reached - each).argmin()) for each in shares})
    begin = 0
    for cut in [*cuts, len(values) - 1]:
        if cut >= begin:
            inside = (counts[rest] >= values[begin]) & (counts[rest] <= values[cut])
            found += _group(counts, rest[inside])
            begin = cut + 1
    return found


def _group(counts: npt.NDArray[np.integer], rows: npt.NDArray[np.int64]) -> list[Group]:
    if not len(rows):
        return []
    return [Group(int(counts[rows].min()), int(counts[rows].max()), rows)]
