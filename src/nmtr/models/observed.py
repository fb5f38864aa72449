"""What the units of an observed funnel read, and a unit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nmtr.data.records import CSR, Histories
from nmtr.errors import UsageError

HOUR = 3_600_000  # ms
LEAST = 0.01  # added before a score's logarithm


class Unit(nn.Module):
    """g(x) = w.x + v.relu(W x + b), at first without its relus."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.last = nn.Linear(hidden, 1, bias=False)
        self.straight = nn.Linear(inputs, 1)
        for each in (self.last.weight, self.straight.weight, self.straight.bias):
            nn.init.zeros_(each)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n,)."""
        found: Tensor = (self.last(self.first(x).relu()) + self.straight(x)).squeeze(-1)
        return found


def through(
    unit: Unit,
    scores: Sequence[Tensor],
    items: Tensor,
    users: Tensor,
    *,
    middle: Tensor,
    spread: Tensor,
    ages: Tensor | None = None,
) -> Tensor:
    """A unit of (x - middle) / spread and of ages for pairs of one shape, without laying out x.

    scores: of each member; items, users: the counts (c, shape) of both sides; ages: (shape, 0 or
    2), of pairs in a row. By elementwise operations, so that a pair's score is the same to the bit
    in any company.
    """
    whole = torch.cat([unit.first.weight, unit.straight.weight]).detach()
    weight = whole[:, : len(spread)] / spread
    start = torch.cat([unit.first.bias, unit.straight.bias]).detach()
    start = start - (weight * middle).sum(1)
    last = unit.last.weight[0].tolist()
    columns = [*scores, *map(log, scores)]
    of_items = weight[:, len(columns) : len(columns) + len(items)]
    of_users = weight[:, len(columns) + len(items) :]
    if ages is not None:
        weight = torch.cat([weight[:, : len(columns)], whole[:, len(spread) :]], 1)
        columns += ages.unbind(1)
    found = torch.zeros_like(scores[0])
    for h in range(len(weight)):
        part = start[h] + _mix(of_users[h], users) + _mix(of_items[h], items)
        for column, value in zip(columns, weight[h].tolist(), strict=False):
            part.add_(column, alpha=value)
        if h < len(weight) - 1:
            found.add_(part.relu_(), alpha=last[h])
        else:
            found.add_(part)
    return found


def counted(sets: Sequence[CSR]) -> list[CSR]:
    """What is counted: records of each of R behaviours, and those that went no further (R - 1)."""
    stayed = [
        below.without(above.row_of_each(), above.indices)
        for below, above in itertools.pairwise(sets)
    ]
    return [*sets, *stayed]


def counts_of(histories: Histories) -> Tensor:
    """(B, 2R - 1) the users' counts."""
    return logs([each.lengths() for each in counted(histories.items)])


def logs(counts: Sequence[npt.NDArray[np.int64]]) -> Tensor:
    """(n, counts) the logarithms of 1 + counts, each (n,)."""
    return torch.from_numpy(np.log1p(np.stack(counts, 1))).float()


def ages(histories: Histories) -> list[Tensor]:
    """For each auxiliary behaviour (pairs, 2): how long ago, and how many of its pairs came later.

    Logarithms, about 1 for three years and for 150 pairs. Ago: before the user's last record of
    any kind. Raises UsageError where the records have no times.
    """
    size = len(histories)
    now = np.full(size, np.iinfo(np.int64).min)
    for each in histories.items:
        np.maximum.at(now, each.row_of_each(), times_of(each))
    found = []
    for each in histories.items[:-1]:
        row, at = each.row_of_each(), times_of(each)
        later = _later(row, at)
        both = np.log1p([(now[row] - at) / HOUR, later]) / [[10.0], [5.0]]
        found.append(torch.from_numpy(both.T).float())
    return found


def _later(row: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(pairs,) how many pairs of the same row have a later time; equals do not count."""
    order = np.lexsort((at, row))
    rows, times = row[order], at[order]
    begins = np.diff(rows, prepend=-1) != 0
    first = begins | (np.diff(times, prepend=0) != 0)
    end_of_row = np.append(np.flatnonzero(begins)[1:], len(rows))[np.cumsum(begins) - 1]
    end_of_equals = np.append(np.flatnonzero(first)[1:], len(rows))[np.cumsum(first) - 1]
    later = np.empty(len(rows), np.int64)
    later[order] = end_of_row - end_of_equals
    return later


def times_of(pairs: CSR) -> npt.NDArray[np.int64]:
    """(pairs,) their times; UsageError where these are not known."""
    if pairs.at is not None:
        return pairs.at
    if pairs.nnz:
        raise UsageError(
            "recency: the records have no times here; only under the protocols time and last are "
            "they looked at, so leave it out, or prepare the log with --holdout time:SHARE or last"
        )
    return np.zeros(0, np.int64)


def log(scores: Tensor) -> Tensor:
    return scores.clamp(min=0).add(LEAST).log()


def _mix(weights: Tensor, columns: Tensor) -> Tensor:
    """Sum of columns (c, shape) by weights (c,)."""
    found = weights[0] * columns[0]
    for weight, column in zip(weights[1:], columns[1:], strict=True):
        found = found + weight * column
    return found
