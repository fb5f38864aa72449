"""Batches of users with all their records and no negatives, for a loss over all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from nmtr.data.records import LabelledPairs, Records
from nmtr.models.base import Batch


@dataclass(frozen=True)
class UserSampler:
    """Deals the users who have a record, in random order, to batches of about as many pairs each.

    A batch is a row for each pair that has any behaviour; the same seed, epoch and size give the
    same batches.
    """

    pairs: LabelledPairs
    batch_size: int
    seed: int

    @classmethod
    def from_records(cls, records: Records, *, batch_size: int, seed: int) -> UserSampler:
        """batch_size: pairs of a batch, about; raises ValueError for one below 1."""
        if batch_size < 1:
            raise ValueError(f"expected a batch_size of 1 or more, got {batch_size}")
        return cls(LabelledPairs.from_records(records), batch_size, seed)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.pairs.pairs.nnz // self.batch_size)

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of one epoch, in one process: a user's rows are not to be divided."""
        if world > 1:
            raise ValueError(f"batches of whole users are not divided among {world} processes")
        lengths = self.pairs.pairs.lengths()
        users = np.random.default_rng((self.seed, number)).permutation(np.flatnonzero(lengths))
        ends = np.cumsum(lengths[users])
        marks = ends[-1] * np.arange(1, self.steps) / self.steps if len(ends) else []
        for part in np.split(users, np.searchsorted(ends, marks, side="right")):
            yield self._batch(np.sort(part))

    def _batch(self, users: np.ndarray) -> Batch:
        pairs, n = self.pairs.pairs, self.pairs.n_behaviors
        lengths = pairs.lengths()[users]
        rows = np.repeat(pairs.indptr[users] - np.cumsum(lengths) + lengths, lengths)
        rows = rows + np.arange(len(rows))
        bits = self.pairs.bits[rows, None] >> np.arange(n, dtype=np.uint32) & np.uint32(1)
        target = torch.from_numpy(bits.astype(np.float32))
        user, item = np.repeat(users, lengths), pairs.indices[rows].astype(np.int64)
        return Batch(torch.from_numpy(user), torch.from_numpy(item), target, target)
