"""Batches: recorded pairs in random order, and negatives drawn for each of their behaviours.

Each positive of behaviour r gets exactly `negatives[r]` negatives, uniform over the items that the
user has no record of under r (`unobserved`) or under any behaviour (`unseen`). One draw serves
every behaviour of its pair that it can be a negative of; a behaviour that it cannot serve is drawn
again in a row of its own, so that every behaviour sees the distribution it should.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import numba
import numpy as np
import numpy.typing as npt
import torch

from nmtr.data.records import LabelledPairs, Records
from nmtr.models.base import Batch
from nmtr.models.kernels import Int
from nmtr.models.kernels.chance import STEP, TRIES, below, scramble
from nmtr.models.kernels.prefetch import prefetch

NegativeRule = Literal["unobserved", "unseen"]
AHEAD = 4  # pairs, whose users' records are asked for before they are searched
LINE, MOST = 16, 256  # items that come at once; of a user's, so many are asked for


class Batches(Protocol):
    """What a training takes its batches from."""

    @property
    def steps(self) -> int: ...

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]: ...


@runtime_checkable
class Divisible(Batches, Protocol):
    """Batches whose bounds may be chosen, so that processes can each draw from their own pairs."""

    @property
    def size(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def between(self, cuts: Sequence[int], number: int, salt: int = 0) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Sampler:
    """Draws the batches of an epoch; the same seed, epoch and batch size give the same batches."""

    pairs: LabelledPairs
    negatives: tuple[int, ...]
    rule: NegativeRule
    batch_size: int
    seed: int

    @classmethod
    def from_records(
        cls,
        records: Records,
        *,
        negatives: tuple[int, ...],
        rule: NegativeRule,
        batch_size: int,
        seed: int,
    ) -> Sampler:
        """negatives: one count per behaviour or one for all; batch_size: recorded pairs a batch.

        Raises ValueError for counts that do not fit, or a batch size below 1.
        """
        pairs = LabelledPairs.from_records(records)
        counts = negatives * pairs.n_behaviors if len(negatives) == 1 else negatives
        if len(counts) != pairs.n_behaviors:
            raise ValueError(
                f"negatives: expected one count or {pairs.n_behaviors} (one for each of "
                f"{', '.join(records.behaviors)}), got {len(counts)}"
            )
        if min(counts) < 0 or batch_size < 1:
            raise ValueError(
                f"expected negatives of 0 or more and a batch_size of 1 or more, got {counts} "
                f"and {batch_size}"
            )
        return cls(pairs, counts, rule, batch_size, seed)

    @property
    def size(self) -> int:
        """Labelled pairs of an epoch."""
        return self.pairs.pairs.nnz

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.size // self.batch_size)

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of one epoch; of several processes, each takes its part of every batch.

        Every process draws the whole batch, which costs little beside its training, so that any
        number of them trains on the same rows.
        """
        cuts = [min(step * self.batch_size, self.size) for step in range(self.steps + 1)]
        for whole in self.between(cuts, number):
            yield whole.part(rank, world)

    def between(self, cuts: Sequence[int], number: int, salt: int = 0) -> Iterator[Batch]:
        """The batches of one epoch that lie between `cuts` of its pairs in random order."""
        set_ = self.pairs.pairs
        order = np.random.default_rng((self.seed, number)).permutation(set_.nnz)
        users = set_.row_of_each().astype(np.int32)
        counts = np.array(self.negatives, np.int64)
        for step, (low, high) in enumerate(pairwise(cuts)):
            chosen = order[low:high]
            chosen = chosen[np.argsort(users[chosen], kind="stable")]  # a user's rows meet in cache
            entropy = np.random.SeedSequence((self.seed, number, step, salt))
            seed = int(entropy.generate_state(1, np.uint64)[0])
            rows = draw(
                chosen, users, set_.indptr, set_.indices, self.pairs.bits, set_.n_columns,
                counts, self.rule == "unseen", np.uint64(seed),
            )  # fmt: skip
            yield Batch(*(torch.from_numpy(each) for each in rows))


@numba.njit(cache=True, nogil=True)
def draw(
    chosen: npt.NDArray[np.int64],
    users: npt.NDArray[np.int32],
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    bits: npt.NDArray[np.uint32],
    n_items: int,
    negatives: npt.NDArray[np.int64],
    unseen: bool,
    seed: np.uint64,
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]
]:
    """Rows (user, item, target, weight) for the chosen recorded pairs: each, then its negatives."""
    behaviors = len(negatives)
    most = negatives.max()
    room = len(chosen) * (1 + most * behaviors)
    user = np.empty(room, np.int64)
    item = np.empty(room, np.int64)
    target = np.zeros((room, behaviors), np.float32)
    weight = np.zeros((room, behaviors), np.float32)
    state = seed
    n = 0
    for c in range(len(chosen)):
        if c + 3 * AHEAD < len(chosen):
            prefetch(users, chosen[c + 3 * AHEAD])
            prefetch(bits, chosen[c + 3 * AHEAD])
        if c + AHEAD < len(chosen):
            later = users[chosen[c + AHEAD]]
            for at in range(indptr[later], min(indptr[later + 1], indptr[later] + MOST), LINE):
                prefetch(indices, at)
        pair = chosen[c]
        u = users[pair]
        user[n] = u
        item[n] = indices[pair]
        for r in range(behaviors):
            if bits[pair] >> np.uint32(r) & np.uint32(1):
                target[n, r] = 1.0
                weight[n, r] = 1.0
        n += 1
        for k in range(most):
            pending = np.uint32(0)
            for r in range(behaviors):
                if k < negatives[r]:
                    pending |= bits[pair] & np.uint32(1 << r)
            tries = 0
            while pending and tries < TRIES:
                tries += 1
                state += STEP
                j = below(scramble(state), n_items)
                known = recorded(indptr[u], indptr[u + 1], indices, bits, j)
                if unseen and known:
                    continue
                free = pending & ~known
                if free:
                    user[n] = u
                    item[n] = j
                    for r in range(behaviors):
                        if free >> np.uint32(r) & np.uint32(1):
                            weight[n, r] = 1.0
                    n += 1
                    pending &= ~free
    return user[:n], item[:n], target[:n], weight[:n]


@numba.njit(cache=True, inline="always")
def recorded(
    low: Int, high: Int, indices: npt.NDArray[np.int32], bits: npt.NDArray[np.uint32], item: Int
) -> np.uint32:
    """The behaviours, as bits, under which the user whose pairs are low..high-1 has this item."""
    end = high
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < item:
            low = middle + 1
        else:
            high = middle
    if low < end and indices[low] == item:
        found: np.uint32 = bits[low]
        return found
    return np.uint32(0)
