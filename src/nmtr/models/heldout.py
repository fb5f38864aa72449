"""Target records held out inside training, and the softmax of each among what stands against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nmtr.data.records import CSR, Histories, Records
from nmtr.models.observed import times_of


@dataclass
class Cases:
    """Held-out pairs of B users, the first B of n, and the pairs that stand against them.

    x: (n, inputs); row: (n,) the user; extra: (n,) the logarithm of how many a pair stands for;
    observed: for each auxiliary behaviour, which pairs have it; ages: what observed.ages says of
    these, (pairs, 0 or 2).
    """

    x: Tensor
    row: Tensor
    extra: Tensor
    observed: list[Tensor]
    ages: list[Tensor]
    size: int

    def loss(self, units: nn.ModuleList) -> Tensor:
        """Mean of -log softmax of the held-out pairs."""
        scores = units[0](self.x)
        for unit, at, ages in zip(units[1:], self.observed, self.ages, strict=True):
            scores = scores.index_add(0, at, unit(torch.cat([self.x[at], ages], 1)))
        own = scores[: self.size]
        scores = scores + self.extra
        top = torch.full((self.size,), -torch.inf)
        top = top.scatter_reduce(0, self.row, scores.detach(), "amax")
        total = torch.zeros(self.size).index_add(0, self.row, (scores - top[self.row]).exp())
        loss: Tensor = (total.log() + top - own).mean()
        return loss


@dataclass(frozen=True)
class HeldOut:
    """Target pairs held out of records, one of each of B users.

    left: the records without them; users, items: (B,); moments: (B,) when the held-out pairs came,
    or None where all that is left may be looked at.
    """

    left: Records
    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    moments: npt.NDArray[np.int64] | None = None

    def part(self, rows: npt.NDArray[np.integer]) -> HeldOut:
        """The pairs of some of the users."""
        moments = None if self.moments is None else self.moments[rows]
        return HeldOut(self.left, self.users[rows], self.items[rows], moments)

    def histories(self) -> Histories:
        """What the users had done before their moments."""
        whole = self.left.histories(self.users)
        if self.moments is None:
            return whole
        return Histories(whole.users, tuple(each.before(self.moments) for each in whole.items))


def hold_out(records: Records, hide: float, rng: np.random.Generator) -> HeldOut:
    """A target pair of each user who has two; of some their lower records are left out too."""
    target = records.target
    order = rng.permutation(target.nnz)
    users = target.row_of_each()
    first = order[np.unique(users[order], return_index=True)[1]]
    return _less(records, first[target.lengths()[users[first]] >= 2], hide, rng)


def hold_out_last(records: Records, hide: float, rng: np.random.Generator) -> HeldOut:
    """The same of each user's last target pair, where anything came before it.

    Raises UsageError where the records have no times.
    """
    target, users = records.target, records.target.row_of_each()
    times = [times_of(each) for each in records.sets][-1]
    order = np.lexsort((rng.random(len(times)), times, users))  # of equals, any
    last = order[np.flatnonzero(np.diff(users[order], append=-1))]
    moments = np.full(target.n_rows, np.iinfo(np.int64).min)
    moments[users[last]] = times[last]
    knows = np.sum([each.before(moments).lengths() for each in records.sets], axis=0) > 0
    held = _less(records, last[knows[users[last]]], hide, rng)
    return replace(held, moments=moments[held.users])


def _less(
    records: Records, places: npt.NDArray[np.int64], hide: float, rng: np.random.Generator
) -> HeldOut:
    target = records.target
    held, items = target.row_of_each()[places], target.indices[places].astype(np.int64)
    hidden = rng.random(len(held)) < hide
    sets = [each.without(held[hidden], items[hidden]) for each in records.sets[:-1]]
    left = Records(records.behaviors, (*sets, target.without(held, items)))
    return HeldOut(left, held, items)


def among(
    held: HeldOut,
    histories: Histories,
    scores: Sequence[Tensor],
    candidates: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (n,) of rows and items, the B held-out ones first, and what Cases calls extra.

    Against a held-out item stand all that are no target record of its user: exactly the best of
    each member by scores (B, N) and the funnel's last level, of the rest a sample.
    """
    size, n = scores[0].shape
    against = torch.ones(size, n, dtype=torch.bool)
    _set(against, held.left.target.take(held.users), False)
    against[torch.arange(size), torch.from_numpy(held.items)] = False
    met = torch.zeros_like(against)  # exactly
    best = min(candidates, n)
    for each in scores:
        top = each.masked_fill(~against, -torch.inf).topk(best, dim=1).indices
        met.scatter_(1, top, torch.ones_like(top, dtype=torch.bool))
    for last in histories.items[-2:-1]:
        _set(met, last, True)
    met &= against
    rest = (against & ~met).sum(1)
    drawn = torch.from_numpy(rng.integers(n, size=(size, candidates)))
    fits = (against & ~met).gather(1, drawn)
    weight = rest.log() - fits.sum(1).clamp(min=1).log()
    near, far = met.nonzero(), fits.nonzero()
    row = torch.cat([torch.arange(size), near[:, 0], far[:, 0]])
    item = torch.cat([torch.from_numpy(held.items), near[:, 1], drawn[far[:, 0], far[:, 1]]])
    extra = torch.cat([torch.zeros(size + len(near)), weight[far[:, 0]].float()])
    return row, item, extra


def _set(cells: Tensor, pairs: CSR, value: bool) -> None:
    row, item = (
        torch.from_numpy(np.asarray(x, np.int64)) for x in (pairs.row_of_each(), pairs.indices)
    )
    cells[row, item] = value
