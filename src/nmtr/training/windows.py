"""Batches of more pairs than one random order should hold: a window of users at a time.

Users are cut into blocks that follow each other, and the blocks, drawn at random, make windows of
some million records. An epoch goes through the windows in random order, and through each in random
order; what is in memory beside the records is one window. A pair then meets in its batches others
of its window alone, which are of users from all over the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from nmtr.data.records import LabelledPairs, Records
from nmtr.models.base import Batch
from nmtr.training.sampler import NegativeRule, Sampler

LARGE = 2**25  # records from which on windows are used
BLOCK = 2**16  # records of a block, about
WINDOW = 64  # blocks of a window

Cuts = list[tuple[int, int]]


@dataclass(frozen=True)
class WindowSampler:
    """Draws the batches of an epoch; the same seed, epoch and batch size give the same batches.

    windows: of each, its blocks as ranges of users; sizes: its labelled pairs.
    """

    records: Records
    windows: tuple[Cuts, ...]
    sizes: tuple[int, ...]
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
    ) -> WindowSampler:
        """As Sampler.from_records."""
        blocks = records.cuts(BLOCK)
        # Whether counts and sizes fit is told by a sampler of the first block.
        first = Sampler.from_records(
            records.between(*blocks[0]), negatives=negatives, rule=rule, batch_size=batch_size,
            seed=seed,
        )  # fmt: skip
        order = np.random.default_rng((seed, len(blocks))).permutation(len(blocks))
        windows = tuple(
            [blocks[each] for each in np.sort(order[at : at + WINDOW])]
            for at in range(0, len(blocks), WINDOW)
        )
        sizes = [
            sum(LabelledPairs.from_records(records.between(*each)).pairs.nnz for each in cuts)
            for cuts in windows
        ]
        return cls(records, windows, tuple(sizes), first.negatives, rule, batch_size, seed)

    @property
    def size(self) -> int:
        """Labelled pairs of an epoch."""
        return sum(self.sizes)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return sum(-(-size // self.batch_size) for size in self.sizes)

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of one epoch, as Sampler.epoch gives them."""
        for window in self._order(number):
            sampler, users = self._open(window)
            for batch in sampler.epoch(number, rank=rank, world=world):
                yield replace(batch, user=users[batch.user])

    def between(self, cuts: Sequence[int], number: int, salt: int = 0) -> Iterator[Batch]:
        """The batches of one epoch that lie between `cuts` of its pairs, from 0 to all of them.

        A batch that ends in another window than it began in has pairs of both.
        """
        step, low, begun = 0, 0, list[Batch]()
        for window in self._order(number):
            high = low + self.sizes[window]
            last = int(np.searchsorted(cuts, high, "right")) - 1  # steps below end by here
            own = np.clip(cuts[step : last + 2], low, high) - low
            sampler, users = self._open(window)
            for at, batch in enumerate(sampler.between(own.tolist(), number, salt), step):
                begun.append(replace(batch, user=users[batch.user]))
                if at < last:
                    yield _joined(begun)
                    begun = []
            step, low = last, high

    def _order(self, number: int) -> list[int]:
        """The windows as an epoch goes through them."""
        order: list[int] = (
            np.random.default_rng((self.seed, number)).permutation(len(self.windows)).tolist()
        )
        return order

    def _open(self, window: int) -> tuple[Sampler, torch.Tensor]:
        """What samples the pairs of a window, and the users whom it numbers from 0."""
        cuts = self.windows[window]
        records = Records.stacked([self.records.between(*each) for each in cuts])
        users: npt.NDArray[np.int64] = np.concatenate([np.arange(*each) for each in cuts])
        entropy = np.random.SeedSequence((self.seed, window, len(self.windows)))
        seed = int(entropy.generate_state(1, np.uint64)[0])
        pairs = LabelledPairs.from_records(records)
        own = Sampler(pairs, self.negatives, self.rule, self.batch_size, seed)
        return own, torch.from_numpy(users)


def _joined(parts: list[Batch]) -> Batch:
    """One batch of the rows of several."""
    some = [each for each in parts if len(each)] or parts[:1]
    if len(some) == 1:
        return some[0]
    names = ("user", "item", "target", "weight")
    return Batch(*(torch.cat([getattr(each, name) for each in some]) for name in names))
