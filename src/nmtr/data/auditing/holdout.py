"""The held-out pairs of any hold-out rule, and what item totals and ids tell of them.

Letters: P held-out pairs, M users, N items, R behaviours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nmtr.data.auditing.figures import HeldOutFigures, IdOrder, Marginal, Shift, Skipped
from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Records, union
from nmtr.data.split import held_out_pairs, split
from nmtr.errors import DataError

TOP = 100  # items; on a catalogue of fewer than 1,000 a tenth of it
DRAWS = 5
BLOCK = 8192  # pairs ranked at a time

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Values = BoolArray | IntArray | npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """P held-out pairs.

    users, items: (P,); row: (P,) each pair's row in `own`; own: R sets, what its user has in
    training (where the hold-out is by time: had before that moment); train: training records of
    all users. Both hold what is recorded of the held-out pairs under auxiliary behaviours.
    """

    rule: str
    users: IntArray
    items: IntArray
    row: IntArray
    own: tuple[CSR, ...]
    train: Records

    @cached_property
    def found(self) -> BoolArray:
        """(R - 1, P) whether each pair is recorded under each auxiliary behaviour."""
        found = np.zeros((len(self.own) - 1, len(self.items)), np.bool_)
        for r, each in enumerate(self.own[:-1]):
            found[r] = each.contains(self.row, self.items)
        return found

    @cached_property
    def slices(self) -> dict[str, BoolArray]:
        """Each slice that has pairs, as a (P,) selection."""
        found, names = self.found, self.train.behaviors
        funnel = np.logical_or.reduce(found, axis=0)
        chosen: dict[str, BoolArray] = {"all": np.ones(len(self.items), np.bool_)}
        if len(found):
            chosen["in-funnel"] = funnel
        if len(found) > 1:
            chosen |= {f"in {names[r]}": found[r] for r in range(len(found))}
        if len(found):
            chosen["new"] = ~funnel
        return {name: each for name, each in chosen.items() if each.any()}

    def removed(self) -> HeldOut:
        """The same with the held-out pairs gone from every behaviour."""
        own = tuple(each.without(self.row, self.items) for each in self.own)
        if self.own is self.train.sets:
            return replace(self, own=own, train=replace(self.train, sets=own))
        sets = tuple(each.without(self.users, self.items) for each in self.train.sets)
        return replace(self, own=own, train=replace(self.train, sets=sets))


def find_held_out(data: Interactions, records: Records) -> HeldOut | Skipped:
    """The test's pairs under the data's own hold-out rule; `records` are those of all events."""
    rule = data.holdout["rule"]
    if rule in ("time", "last"):
        try:
            parts = split(data, rule)
        except DataError as error:
            return Skipped(str(error))
        test = parts.evaluation
        row = test.truth.row_of_each()
        items = test.truth.indices.astype(np.int64)
        return HeldOut(rule, test.users[row], items, row, test.histories.items, parts.train)
    users, items = held_out_pairs(data)
    if not len(users):
        name = data.behaviors[-1]
        return Skipped(f"no user has two {name} pairs, so that none can be held out")
    sets = (*records.sets[:-1], records.target.without(users, items))
    return HeldOut(rule, users, items, users, sets, replace(records, sets=sets))


def describe(held: HeldOut, records: Records) -> HeldOutFigures:
    """Count the held-out pairs, and what is recorded of them elsewhere."""
    names, target = held.train.behaviors[:-1], held.train.target
    rows = target.row_of_each()
    both = [each.contains(rows, target.indices) for each in held.train.sets[:-1]]
    seen_items = sum(each.column_counts() for each in held.train.sets)
    seen_users = sum(each.lengths() for each in held.own)
    in_target = records.target.contains(held.users, held.items) if held.rule == "file" else 0
    return HeldOutFigures(
        rule=held.rule,
        users=len(np.unique(held.users)),
        pairs=len(held.items),
        slices={name: int(each.sum()) for name, each in held.slices.items()},
        held_out_in=dict(zip(names, map(_share, held.found), strict=True)),
        trained_in=dict(zip(names, map(_share, both), strict=True)),
        in_target=int(np.sum(in_target)),
        cold_items=_share(np.asarray(seen_items)[held.items] == 0),
        cold_users=_share(np.asarray(seen_users)[held.row] == 0),
    )


def id_order(data: Interactions, held: HeldOut) -> IdOrder | Skipped:
    """Compare each held-out item's id with the ids of its user's training target items."""
    if not data.items.ids.dtype.is_integer():
        return Skipped("item ids are text; only integer ids have an order that could leak")
    ids = data.items.ids.to_numpy()
    target = held.own[-1].without(held.row, held.items)
    counts = target.lengths()
    usable = counts[held.row] > 0
    if not usable.any():
        return Skipped("no user with a held-out pair has a training target item to compare it with")
    filled = np.flatnonzero(counts)
    highest, lowest = np.zeros((2, target.n_rows), np.int64)
    highest[filled] = np.maximum.reduceat(ids[target.indices], target.indptr[filled])
    lowest[filled] = np.minimum.reduceat(ids[target.indices], target.indptr[filled])
    mine = ids[held.items]
    chosen = {name: each & usable for name, each in held.slices.items()}
    chosen = {name: each for name, each in chosen.items() if each.any()}
    return IdOrder(
        users={name: len(np.unique(held.row[each])) for name, each in chosen.items()},
        above=_means(mine > highest[held.row], held.row, chosen),
        below=_means(mine < lowest[held.row], held.row, chosen),
        chance=_means(1 / (1 + counts[held.row]), held.row, chosen),
    )


def marginal(held: HeldOut) -> Marginal | Skipped:
    """Rank by what item totals look like once the held-out pairs are gone."""
    if len(held.own) < 2:
        return Skipped("there is no auxiliary behaviour whose totals could tell")
    slices = held.slices
    removed = held.removed()
    below, target = (each.column_counts() for each in removed.train.sets[-2:])
    seen = union(removed.own)
    cutoff = top_items(len(target))
    hits = [
        ranks(score, seen, rows=held.row, items=held.items) <= cutoff
        for score in (below - target, target)
    ]
    gap = hits[0].astype(np.int64) - hits[1]
    gaps = {name: _per_user(gap[each], held.row[each]) for name, each in slices.items()}
    return Marginal(
        below=held.train.behaviors[-2],
        cutoff=cutoff,
        by_totals=_means(hits[0], held.row, slices),
        by_popularity=_means(hits[1], held.row, slices),
        error={name: float(np.std(each) / np.sqrt(len(each))) for name, each in gaps.items()},
    )


def ranks(
    score: npt.NDArray[np.integer], seen: CSR, *, rows: IntArray, items: IntArray
) -> IntArray:
    """(P,) rank from 1 of each item among the N less the row's seen ones, by one score for all.

    score: (N,). Ties count against the item. No item may itself be seen.
    """
    ascending = np.sort(score)
    found = len(score) - np.searchsorted(ascending, score[items])
    for start in range(0, len(items), BLOCK):
        part = slice(start, start + BLOCK)
        mask = seen.take(rows[part])
        pair = mask.row_of_each()
        better = score[mask.indices] >= score[items[part]][pair]
        found[part] -= np.bincount(pair[better], minlength=mask.n_rows)
    return found


def shift(held: HeldOut, seed: int = 0) -> Shift | Skipped:
    """Compare which items are held out with which are trained on."""
    target = held.own[-1].without(held.row, held.items)
    wanted = np.bincount(held.row, minlength=target.n_rows)
    train = held.train.target.column_counts()
    if not target.lengths()[held.row].any():
        return Skipped("no user with a held-out pair has a training target item to compare it with")
    top = top_items(len(train))
    rng = np.random.default_rng(seed)
    drawn = np.empty((DRAWS, 2))
    for each in drawn:
        each[:] = _concentration(_draw(target, wanted, rng), train, top)
    held_out, train_same = _concentration(held.items, train, top)
    most = np.sort(train)[-top:].sum() / train.sum()
    return Shift(top, held_out, train_same, float(most), *map(float, drawn.mean(axis=0)))


def top_items(n_items: int) -> int:
    """100, or a tenth of a small catalogue."""
    return min(TOP, max(1, n_items // 10))


def _draw(target: CSR, wanted: IntArray, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """At random, as many different items of each row as wanted, or all it has."""
    users = target.row_of_each()
    order = np.lexsort((rng.random(target.nnz), users))
    place = np.arange(target.nnz) - target.indptr[users]
    return target.indices[order[place < wanted[users]]]


def _concentration(
    items: npt.NDArray[np.integer], train: IntArray, top: int
) -> tuple[float, float]:
    """Share of the given items on the `top` commonest of them, and of training on the same."""
    counts = np.bincount(items, minlength=len(train))
    most = np.argsort(-counts, kind="stable")[:top]
    return float(counts[most].sum() / len(items)), float(train[most].sum() / train.sum())


def _means(values: Values, rows: IntArray, slices: dict[str, BoolArray]) -> dict[str, float]:
    """Mean of the users' means in each slice."""
    return {
        name: float(_per_user(values[each], rows[each]).mean()) for name, each in slices.items()
    }


def _per_user(values: Values, rows: IntArray) -> npt.NDArray[np.float64]:
    counts = np.bincount(rows)
    sums = np.bincount(rows, weights=values)
    mean: npt.NDArray[np.float64] = sums[counts > 0] / counts[counts > 0]
    return mean


def _share(which: BoolArray) -> float:
    return float(which.mean()) if len(which) else 0.0
