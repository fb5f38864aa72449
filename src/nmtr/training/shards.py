"""Training records divided among processes by users, so that none holds them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from nmtr.data.records import CSR, LabelledPairs, Records
from nmtr.errors import UsageError
from nmtr.models.base import Batch
from nmtr.models.kernels.threads import even_cuts
from nmtr.training.distributed import Group
from nmtr.training.sampler import Batches, Divisible

COLUMNS = ("user", "item", "bits")


class Feed(Protocol):
    """What brings a process its users' records, and is told when a checkpoint has been kept."""

    def records(self, phase: str) -> Records: ...

    def keep(self) -> None: ...


@dataclass(frozen=True)
class ShardSampler:
    """Draws from the records of this process's users alone.

    Every process makes the same number of steps, each with a like part of its own pairs; together
    they are batches of about the size that was asked for.
    """

    own: Divisible
    steps: int

    @classmethod
    def of(cls, own: Batches, group: Group) -> ShardSampler:
        """own: what draws from this process's records. Raises UsageError for draws by level."""
        if not isinstance(own, Divisible):
            raise UsageError("negatives by levels are drawn with all records at hand")
        pairs = int(group.gather(torch.tensor([own.size])).sum())
        return cls(own, -(-pairs // own.batch_size))

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of one epoch, of this process's users."""
        cuts = even_cuts(self.own.size, self.steps)
        return self.own.between(cuts, number, salt=rank)


Columns = dict[str, npt.NDArray[np.integer]]


def divided(records: Records, parts: int) -> list[Columns]:
    """Parts of about as many pairs, each of users of its own: columns user, item, bits (int32)."""
    found = LabelledPairs.from_records(records)
    set_ = found.pairs
    users = set_.row_of_each().astype(np.int32)
    cuts = set_.indptr[np.searchsorted(set_.indptr, even_cuts(set_.nnz, parts))]
    columns = (users, set_.indices, found.bits.view(np.int32))
    return [
        {name: each[low:high] for name, each in zip(COLUMNS, columns, strict=True)}
        for low, high in pairwise(cuts)
    ]


def joined_up(columns: Columns, shape: tuple[int, int], behaviors: tuple[str, ...]) -> Records:
    """The records of such a part, whatever the order of its pairs; shape: users, items."""
    n_users, n_items = shape
    keys = columns["user"].astype(np.int64) * n_items + columns["item"]
    order = np.argsort(keys)
    keys, bits = keys[order], columns["bits"][order]
    sets = (keys[bits >> r & 1 == 1] for r in range(len(behaviors)))
    return Records(behaviors, tuple(CSR.from_keys(each, n_users, n_items) for each in sets))
