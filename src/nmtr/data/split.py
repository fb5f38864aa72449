"""The protocols: which records train, whom to rank for, what is masked, what is true.

PROTOCOLS.md's terms. A `fold` is `test` (train on everything else) or `validation` (a hold-out made
inside the training log, treated exactly as the protocol treats test).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from nmtr.data import timesplit
from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories, Records
from nmtr.data.timesplit import Part
from nmtr.data.vocabulary import mix
from nmtr.errors import DataError, UsageError
from nmtr.options import unknown

Protocol = Literal["as-published", "discovery", "leak-free", "time", "last"]
Fold = Literal["test", "validation"]
Mask = Literal["target", "seen", "none"]
PROTOCOLS: tuple[Protocol, ...] = ("as-published", "discovery", "leak-free", "time", "last")
MASK: dict[str, Mask] = {
    "as-published": "target",
    "discovery": "seen",
    "leak-free": "seen",
    "time": "target",
    "last": "target",
}
WORDS = {
    "as-published": "records as given, all users, training target items masked; rewards memory of "
    "the funnel",
    "discovery": "users whose held-out pair has no auxiliary record, every seen item masked",
    "leak-free": "the held-out pair leaves every behaviour, all users, every seen item masked "
    "(a diagnostic)",
    "time": "training sees only events before the cut; each user is ranked just before their next "
    "target event",
    "last": "each user's last first purchase; training sees the user's earlier events, and other "
    "users' future",
}
SALT = {"test": 1, "validation": 2, "kept": 3}


@dataclass(frozen=True)
class Evaluation:
    """Whom to rank for, and what is true.

    users: (U,) index in the data; histories: what a model may look at, U rows (index -1 where
    training knows nothing of the user); truth, mask: sets of U rows; in_funnel: (truth.nnz,) the
    slice of each held-out pair; sealed: (U,) the half of the users that no development run reads.
    """

    users: npt.NDArray[np.int64]
    histories: Histories
    truth: CSR
    mask: CSR
    in_funnel: npt.NDArray[np.bool_]
    sealed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Training records and one evaluation under one protocol."""

    protocol: Protocol
    fold: Fold
    mask: Mask
    train: Records
    evaluation: Evaluation

    def describe(self) -> str:
        mask = f", mask {self.mask}" if self.mask != MASK[self.protocol] else ""
        words = f"{WORDS[self.protocol]}{mask}"
        return f"{self.protocol}, {self.fold}: {words}; exact ranking of all items"


def default_protocol(data: Interactions) -> Protocol:
    """`time` or `last` where the hold-out is by time, else `discovery`, the headline there."""
    rule = data.holdout["rule"]
    return rule if rule in ("time", "last") else "discovery"


def split(
    data: Interactions,
    protocol: str | None = None,
    *,
    fold: Fold = "test",
    mask: Mask | None = None,
) -> Split:
    """Split a prepared data set.

    A mask wider than the protocol's own leaves out the held-out pairs that it covers: an item that
    may not be ranked is no truth. Raises UsageError where the data's hold-out cannot serve the
    protocol, DataError where no user has anything to hold out.
    """
    chosen = _check_protocol(data, protocol)
    if fold not in ("test", "validation") or mask not in (None, "target", "seen", "none"):
        raise UsageError(
            f"expected fold test or validation and mask target, seen or none; got {fold} and {mask}"
        )
    mask = mask or MASK[chosen]
    part = _drawn(data, chosen, fold)
    train, users, histories = part.train, part.users, part.histories
    truth, in_funnel = part.truth, part.in_funnel
    masked = _masked(Records(train.behaviors, histories.items), mask, repurchase=data.repurchase)
    known = np.zeros(data.n_users, np.bool_)
    for each in train.sets:
        known |= each.lengths() > 0
    histories = replace(histories, users=np.where(known[users], users, -1))
    sealed = (data.user_hash[users] & np.uint64(1)).astype(np.bool_)
    evaluation = Evaluation(users.astype(np.int64), histories, truth, masked, in_funnel, sealed)
    covered = masked.contains(truth.row_of_each(), truth.indices)
    if covered.any():
        if mask == MASK[chosen]:
            raise AssertionError(f"a held-out pair is masked under {chosen}, mask {mask}")
        evaluation = _only(evaluation, ~covered)
    if len(evaluation.users) == 0:
        raise DataError(_nobody(chosen, fold, mask))
    return Split(chosen, fold, mask, train, evaluation)


def _drawn(data: Interactions, protocol: Protocol, fold: Fold) -> Part:
    """What is held out, of users block by block: a protocol tells nobody's by another's events."""
    validation = fold == "validation"
    cut = timesplit.window(data, validation=validation) if protocol == "time" else (0, 0)

    def of(block: Interactions) -> Part:
        if protocol == "time":
            return timesplit.by_time(block, *cut)
        if protocol == "last":
            return timesplit.by_last(block, validation=validation)
        return _by_pair(block, protocol, fold)

    cuts = data.cuts()
    return of(data) if len(cuts) == 1 else Part.stacked([of(data.block(*each)) for each in cuts])


def _only(evaluation: Evaluation, keep: npt.NDArray[np.bool_]) -> Evaluation:
    """The evaluation of the held-out pairs kept (truth.nnz,), and of the users who have any."""
    truth, histories = evaluation.truth, evaluation.histories
    gone = truth.row_of_each()[~keep], truth.indices[~keep]
    truth = truth.without(*gone)
    rows = np.flatnonzero(truth.lengths())
    return Evaluation(
        evaluation.users[rows],
        Histories(histories.users[rows], tuple(each.take(rows) for each in histories.items)),
        truth.take(rows),
        evaluation.mask.take(rows),
        evaluation.in_funnel[keep],
        evaluation.sealed[rows],
    )


def _nobody(protocol: Protocol, fold: Fold, mask: Mask) -> str:
    """Why there is nobody to rank for, and what to do."""
    if mask == "seen" and fold == "test" and protocol != "leak-free":
        why = (
            "every held-out pair has an auxiliary record too, or there is none; use "
            "--protocol as-published, or hold out by time"
        )
    elif protocol == "time":
        why = "no user has a new target item in that stretch of time; move the cut of --holdout"
    else:
        why = "a user needs two target items, and three for validation beside test"
    return f"no user has anything to hold out for {protocol} ({fold}): {why}"


def _check_protocol(data: Interactions, protocol: str | None) -> Protocol:
    if protocol is None:
        return default_protocol(data)
    for known in PROTOCOLS:
        if protocol == known:
            rule = data.holdout["rule"]
            if known in ("time", "last") and rule != known:
                example = "time:0.9" if known == "time" else "last"
                raise UsageError(
                    f"protocol {known} needs data prepared with --holdout {example}; "
                    f"these have '{rule}'"
                )
            if rule in ("time", "last") and known != rule:
                raise UsageError(
                    f"protocol {known} needs data prepared with --holdout random or FILE; "
                    f"these have '{rule}'"
                )
            return known
    raise unknown("protocol", protocol, PROTOCOLS)


def _masked(records: Records, mask: Mask, *, repurchase: bool) -> CSR:
    nothing = CSR(np.zeros(records.n_users + 1, np.int64), np.zeros(0, np.int32), records.n_items)
    if mask == "seen":
        return records.seen()
    return records.target if mask == "target" and not repurchase else nothing


def held_out_pairs(data: Interactions) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The test's (user, item) pairs, where the hold-out is by pair (rules `random` and `file`)."""
    if data.holdout_user is not None and data.holdout_item is not None:
        return data.holdout_user.astype(np.int64), data.holdout_item.astype(np.int64)
    salt = SALT["test"] + 16 * int(data.holdout["seed"])
    return draw(data, data.records().target, salt)


def draw(
    data: Interactions, target: CSR, salt: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One target pair of each user who has at least two: the one whose hash is smallest."""
    users = target.row_of_each()
    values = mix(data.user_hash[users], data.item_hash[target.indices], salt=salt)
    order = np.lexsort((values, users))
    first = target.indptr[:-1][target.lengths() >= 2]
    picked = order[first]
    return users[picked], target.indices[picked].astype(np.int64)


def _by_pair(data: Interactions, protocol: Protocol, fold: Fold) -> Part:
    """Training records, and the held-out pairs with their slices."""
    records = data.records()
    users, items = held_out_pairs(data)
    in_funnel = _in_funnel(records, users, items)
    records = _drop(records, users, items, protocol)
    if fold == "validation":
        salt = SALT["validation"] + 16 * int(data.holdout["seed"])
        users, items = draw(data, records.target, salt)
        in_funnel = _in_funnel(records, users, items)
        if protocol == "as-published":
            # PROTOCOLS: scored with auxiliary records kept and removed, the mean decides. One run
            # serves both: a hash keeps the records of half the users and removes the other half's.
            values = mix(data.user_hash[users], data.item_hash[items], salt=SALT["kept"])
            removed = (values & np.uint64(1)).astype(np.bool_)
            records = _drop(records, users, items, "as-published")
            records = _drop(records, users[removed], items[removed], "leak-free")
        else:
            records = _drop(records, users, items, "leak-free")
    elif protocol == "discovery":
        users, items, in_funnel = users[~in_funnel], items[~in_funnel], in_funnel[~in_funnel]
    order = np.lexsort((items, users))
    held, rows = np.unique(users, return_inverse=True)
    truth = CSR.from_pairs(rows, items, len(held), data.n_items)
    return Part(records, held, records.histories(held), truth, in_funnel[order])


def _in_funnel(
    records: Records, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(users), np.bool_)
    for each in records.sets[:-1]:
        found |= each.contains(users, items)
    return found


def _drop(
    records: Records, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], protocol: Protocol
) -> Records:
    """Held-out pairs leave the target, and under `leak-free` every behaviour."""
    leaves: Callable[[int], bool] = lambda r: protocol == "leak-free" or r == len(records.sets) - 1  # noqa: E731
    sets = tuple(
        each.without(users, items) if leaves(r) else each for r, each in enumerate(records.sets)
    )
    return replace(records, sets=sets)
