"""Batches over levels of preference: positives from any level, negatives from below theirs.

The drawing of Multi-Channel BPR (nmtr.models.levels) for models that learn by a log loss: each row
is a pair and whether it is preferred, in one column. An epoch takes of level r the share w_r / max
w of its pairs, others each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import torch

from nmtr.data.records import Records
from nmtr.models.base import Batch
from nmtr.models.kernels.levels import lower
from nmtr.models.levels import LevelPairs, Levels


@dataclass(frozen=True)
class LevelSampler:
    """Draws the batches of an epoch; the same seed, epoch and batch size give the same batches.

    places: of each level, where its pairs stand in pairs.items; rows: (P,) each pair's row of
    pairs.indptr.
    """

    pairs: LevelPairs
    places: tuple[npt.NDArray[np.int64], ...]
    rows: npt.NDArray[np.int64]
    negatives: int
    batch_size: int
    seed: int

    @classmethod
    def from_records(
        cls, records: Records, levels: Levels, *, negatives: int, batch_size: int, seed: int
    ) -> LevelSampler:
        """negatives: for each positive; batch_size: positives a batch.

        Raises ValueError for a count below 0, or a batch size below 1.
        """
        if negatives < 0 or batch_size < 1:
            raise ValueError(
                "expected negatives of 0 or more and a batch_size of 1 or more, got "
                f"{negatives} and {batch_size}"
            )
        pairs = LevelPairs.from_records(records, levels)
        rows = np.repeat(np.arange(len(pairs.indptr) - 1), np.diff(pairs.indptr))
        places = tuple(np.flatnonzero(rows % pairs.n_levels == r) for r in range(pairs.n_levels))
        return cls(pairs, places, rows, negatives, batch_size, seed)

    @property
    def counts(self) -> list[int]:
        """Positives of each level in an epoch."""
        shares = zip(self.places, self.pairs.keep, strict=True)
        return [round(len(places) * float(keep)) for places, keep in shares]

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-sum(self.counts) // self.batch_size)

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of one epoch; of several processes, each takes its part of every batch.

        Every process draws the whole batch, which costs little beside its training, so that any
        number of them trains on the same rows.
        """
        rng = np.random.default_rng((self.seed, number))
        shares = zip(self.places, self.counts, strict=True)
        taken = [rng.permutation(places)[:count] for places, count in shares]
        order = rng.permutation(np.concatenate(taken))
        pairs = self.pairs
        for step in range(self.steps):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            chosen = np.sort(chosen)  # a user's rows meet in cache
            entropy = np.random.SeedSequence((self.seed, number, step, 0))
            user, item, target = draw(
                chosen, self.rows, pairs.indptr, pairs.items, pairs.seen, pairs.odds, pairs.beta,
                pairs.n_items, self.negatives, entropy.generate_state(1, np.uint64)[0],
            )  # fmt: skip
            labels = torch.from_numpy(target)[:, None]
            whole = Batch(
                torch.from_numpy(user), torch.from_numpy(item), labels, torch.ones_like(labels)
            )
            yield whole.part(rank, world)


@numba.njit(cache=True)
def draw(
    chosen: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    seen: npt.NDArray[np.int32],
    odds: npt.NDArray[np.float64],
    beta: float,
    n_items: int,
    negatives: int,
    seed: np.uint64,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows (user, item, preferred) for the chosen pairs: each, then its negatives."""
    room = len(chosen) * (1 + negatives)
    user = np.empty(room, np.int64)
    item = np.empty(room, np.int64)
    target = np.zeros(room, np.float32)
    state = seed
    n = 0
    for pair in chosen:
        u, level = rows[pair] // len(odds), rows[pair] % len(odds)
        user[n], item[n], target[n] = u, items[pair], 1
        n += 1
        for _ in range(negatives):
            j, state = lower(u, level, indptr, items, seen, odds, beta, n_items, state)
            if j >= 0:
                user[n], item[n] = u, j
                n += 1
    return user[:n], item[:n], target[:n]
