"""Splits where there are times: a global cut, and each user's last first purchase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories, Records

NEVER = np.iinfo(np.int64).max
VALIDATION = 0.9  # of the target events before the test's cut come before validation's


@dataclass(frozen=True)
class Part:
    """What a split makes of users who follow each other.

    train: records of all of them; users: (U,) those with anything held out; histories: U rows of
    what they did before it; truth: a set of U rows; in_funnel: (truth.nnz,).
    """

    train: Records
    users: npt.NDArray[np.int64]
    histories: Histories
    truth: CSR
    in_funnel: npt.NDArray[np.bool_]

    @classmethod
    def stacked(cls, parts: Sequence[Part]) -> Part:
        """The users of part after part."""
        sizes = [each.train.n_users for each in parts]
        firsts = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
        users = [each.users + low for each, low in zip(parts, firsts, strict=True)]
        met = [each.histories.users + low for each, low in zip(parts, firsts, strict=True)]
        items = zip(*(each.histories.items for each in parts), strict=True)
        return cls(
            Records.stacked([each.train for each in parts]),
            np.concatenate(users),
            Histories(np.concatenate(met), tuple(CSR.stacked(each) for each in items)),
            CSR.stacked([each.truth for each in parts]),
            np.concatenate([each.in_funnel for each in parts]),
        )


def window(data: Interactions, *, validation: bool) -> tuple[int, int]:
    """From which moment to which a cut holds out: to the end, or for validation to the test's."""
    cut = int(data.holdout["cut"])
    return (_validation_cut(data, cut), cut) if validation else (cut, NEVER)


def by_time(data: Interactions, cut: int, end: int) -> Part:
    """A global cut: training before it; a user's moment is their first true event from it on.

    The truth is every target item from that moment to the end that the user had not bought before,
    or any where repeats are allowed.
    """
    time = _times(data)
    counts = _counts(data, cut, end)
    moments = np.full(data.n_users, NEVER)
    np.minimum.at(moments, data.user[counts], time[counts])
    return _at_moments(data, moments, counts, train=time < cut)


def by_last(data: Interactions, *, validation: bool) -> Part:
    """Each user's last first purchase is the truth, everything before it (strictly) is theirs.

    Validation does the same once more inside what test leaves. A user whose only purchase it would
    be keeps it for training.
    """
    time = _times(data)
    before = np.ones(data.n_events, np.bool_)
    for _ in range(2 if validation else 1):
        first = _first_purchases(data, before)
        moments = _last_moments(data, first)
        counts = first & (time == moments[data.user])
        before = before & (time < moments[data.user])
    return _at_moments(data, moments, counts, train=before)


def _at_moments(
    data: Interactions,
    moments: npt.NDArray[np.int64],
    counts: npt.NDArray[np.bool_],
    *,
    train: npt.NDArray[np.bool_],
) -> Part:
    time = _times(data)
    users = np.flatnonzero(moments < NEVER)
    before = data.records(time < moments[data.user], timed=True)
    histories = before.histories(users)
    rows = np.searchsorted(users, data.user[counts])
    truth = CSR.from_pairs(rows, data.item[counts], len(users), data.n_items)
    if not data.repurchase:
        bought = histories.items[-1]
        truth = truth.without(bought.row_of_each(), bought.indices)
    in_funnel = np.zeros(truth.nnz, np.bool_)
    for each in histories.items[:-1]:
        in_funnel |= each.contains(truth.row_of_each(), truth.indices)
    return Part(data.records(train, timed=True), users, histories, truth, in_funnel)


def _counts(data: Interactions, cut: int, end: int) -> npt.NDArray[np.bool_]:
    """(events,) the target events in [cut, end) that may be true: they were not taken back by the
    end, and the item was not the user's at the cut (unless repeats count).
    """
    time = _times(data)
    target: npt.NDArray[np.bool_] = data.code == len(data.behaviors) - 1
    events = target & (time >= cut) & (time < end)
    events &= _stands(data, time < end)
    return events if data.repurchase else events & ~_stands(data, time < cut)


def _stands(data: Interactions, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(events,) whether each event's pair has a target record after the events known."""
    return data.records(known).target.contains(data.user, data.item)


def _first_purchases(data: Interactions, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(events,) the first target event of each pair that stands, among the events known."""
    at = np.flatnonzero(known & (data.code == len(data.behaviors) - 1) & _stands(data, known))
    keys = data.user[at].astype(np.int64) * data.n_items + data.item[at]
    _, first = np.unique(keys, return_index=True)
    found = np.zeros(data.n_events, np.bool_)
    found[at[first]] = True
    return found


def _last_moments(data: Interactions, first: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(M,) time of each user's last first purchase; NEVER where all are at one time, or none is."""
    time, users = _times(data)[first], data.user[first]
    last = np.full(data.n_users, np.iinfo(np.int64).min)  # below any time, those before 1970 too
    np.maximum.at(last, users, time)
    earliest = np.full(data.n_users, NEVER)
    np.minimum.at(earliest, users, time)
    return np.where(last > earliest, last, NEVER)


def _validation_cut(data: Interactions, cut: int) -> int:
    """The cut that leaves validation a tenth of the target events before the test's.

    How many come after that one is not looked at.
    """
    blocks = (data.block(*each) for each in data.cuts())
    own = [
        _times(each)[(each.code == len(data.behaviors) - 1) & (_times(each) < cut)]
        for each in blocks
    ]
    known = np.sort(np.concatenate(own))
    return int(known[min(int(VALIDATION * len(known)), len(known) - 1)])


def _times(data: Interactions) -> npt.NDArray[np.int64]:
    if data.time is None:
        raise AssertionError("a time split of data without times")
    return data.time
