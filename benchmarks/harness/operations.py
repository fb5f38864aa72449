"""What nmtr's kernels cannot do without: operations and bytes, a sample or a pair.

A multiplication and an addition are two operations; activations, square roots and comparisons are
not counted. Bytes are those of float32 rows that pass between kernel and memory when no table fits
a cache; where one does, the copy rate is no bound. Letters: E embedding size, R behaviours,
H = layers[0] the MLP's first width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Work:
    """Of one sample of training, or of one (user, item) pair of ranking."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Roof:
    """What a machine can do in a second."""

    operations: float
    bytes: float

    def bound(self, work: Work) -> float:
        """Samples or pairs a second, however good the code."""
        return min(self.operations / work.operations, self.bytes / work.bytes)


def upper(layers: Sequence[int]) -> int:
    """An MLP above its first layer, and its last weights, for one pair."""
    return 2 * sum(a * b for a, b in pairwise(layers)) + 2 * layers[-1]


def training(
    E: int, layers: Sequence[int], R: int, *, rows_per_sample: float, met_per_sample: float
) -> Work:
    """One labelled (user, item, behaviour) of a batch; `layers` empty for GMF.

    rows_per_sample: rows are (user, item) pairs and serve several behaviours; met_per_sample:
    distinct users and items of the batch, for which the first layer, the gradient's table and
    Adagrad are paid once.
    """
    sample = 6 * E  # h . pq up; to h and to pq down
    row = 5 * E  # pq; to p and to q
    met = 6 * E  # Adagrad
    row_bytes = 12 * E  # q read, its gradient read and written; p stays
    met_bytes = 32 * E  # gathered, gradient written, Adagrad's two tables read and written
    if layers:
        H = layers[0]
        sample += 3 * upper(layers) + 3 * H  # up, to inputs, to weights; the two halves added
        met += R * 3 * 2 * E * H  # the first layer of each behaviour: up, to inputs, to weights
        row_bytes += R * 12 * H
        met_bytes += R * 12 * H
    operations = sample + rows_per_sample * row + met_per_sample * met
    return Work(operations, rows_per_sample * row_bytes + met_per_sample * met_bytes)


def ranking(E: int, layers: Sequence[int], R: int, *, share: float = 1.0, block: int = 32) -> Work:
    """One (user, item) pair: the target's unit, and the levels below for a share of the pairs.

    block: users for whom an item's rows are read once. The first layers, once a user and once an
    item, are left out.
    """
    unit = 2 * E + (layers[0] + upper(layers) if layers else 0)
    read = 4 * (E + (layers[0] if layers else 0)) / block
    levels = 1 + share * (R - 1)
    return Work(unit * levels, read * levels + 8)  # a score is written and read
