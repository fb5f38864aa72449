"""What a prepared data set is: volumes, nesting, what its hold-out leaks, shift, times; a verdict.

The held-out pairs are counted here, never learned from: an audit chooses no setting of a model.
"""

from __future__ import annotations

import time as clock
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from nmtr.data.auditing import holdout
from nmtr.data.auditing.figures import Audit, Skipped, Times, UserGroup, Volume
from nmtr.data.auditing.holdout import HeldOut
from nmtr.data.auditing.tables import render
from nmtr.data.auditing.text import recommend, verdicts
from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Records

__all__ = ["Audit", "audit", "render", "sparsity_groups"]

GROUPS = 5
PAPER_FIRST = (5, 8)  # training target records of the paper's first user group (Figure 2)
DAY = 86_400_000
YEAR_1990 = 631_152_000_000


def audit(data: Interactions) -> Audit:
    """Measure a prepared data set; never fails for want of anything to hold out."""
    records = data.records()
    held = holdout.find_held_out(data, records)
    train = records if isinstance(held, Skipped) else held.train
    found = Audit(
        users=data.n_users,
        items=data.n_items,
        volumes=_volumes(data, records),
        nesting=_nesting(records),
        held_out=held if isinstance(held, Skipped) else holdout.describe(held, records),
        id_order=held if isinstance(held, Skipped) else holdout.id_order(data, held),
        marginal=held if isinstance(held, Skipped) else holdout.marginal(held),
        shift=held if isinstance(held, Skipped) else holdout.shift(held),
        groups=sparsity_groups(train.target.lengths()),
        times=_times(data, held),
        read=dict(data.manifest.get("read", {})),
    )
    protocol, why = recommend(found)
    return replace(found, verdicts=verdicts(found), protocol=protocol, why=why)


def sparsity_groups(counts: npt.NDArray[np.integer]) -> tuple[UserGroup, ...]:
    """Users by training target records, in five groups, those without any in one before them.

    Where nobody with records has fewer than 5, the first group is the paper's, 5 to 8, and the
    others hold about equally many users each; else all do. Equal bounds merge.
    """
    counts = np.sort(counts)
    groups = [UserGroup(0, 0, int((counts == 0).sum()))] if counts[0] == 0 else []
    known = counts[counts > 0]
    if not len(known):
        return tuple(groups)
    highs: list[int] = []
    rest, parts = known, GROUPS
    if known[0] >= PAPER_FIRST[0] and known[-1] > PAPER_FIRST[1]:
        highs, rest, parts = [PAPER_FIRST[1]], known[known > PAPER_FIRST[1]], GROUPS - 1
    cuts = np.quantile(rest, np.arange(1, parts + 1) / parts, method="inverted_cdf")
    low = PAPER_FIRST[0] if highs else int(known[0])
    for high in [*highs, *(int(each) for each in np.unique(cuts))]:
        groups.append(UserGroup(low, high, int(((known >= low) & (known <= high)).sum())))
        low = high + 1
    return tuple(groups)


def _volumes(data: Interactions, records: Records) -> tuple[Volume, ...]:
    counts = np.bincount(data.code.astype(np.int64) + 128, minlength=256)
    found = []
    for r, (name, pairs) in enumerate(zip(records.behaviors, records.sets, strict=True)):
        events = int(counts[128 + r])
        found.append(
            Volume(
                name=name,
                events=events,
                undo_events=int(counts[127 - r]),
                pairs=pairs.nnz,
                density=pairs.nnz / (data.n_users * data.n_items),
                repeated=1 - pairs.nnz / events if events else 0.0,
            )
        )
    return tuple(found)


def _nesting(records: Records) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for r, name in enumerate(records.behaviors[1:], start=1):
        higher = records.sets[r]
        rows = higher.row_of_each()
        shares = {}
        for lower, pairs in zip(records.behaviors[:r], records.sets, strict=False):
            inside = pairs.contains(rows, higher.indices)
            shares[lower] = float(inside.mean()) if len(inside) else 0.0
        found[name] = shares
    return found


def _times(data: Interactions, held: HeldOut | Skipped) -> Times | Skipped:
    if data.time is None:
        return Skipped("the log has no times")
    time = np.asarray(data.time)
    instants, counts = np.unique(time, return_counts=True)
    at = int(np.argmax(counts))
    tie = (time[1:] == time[:-1]) & (data.user[1:] == data.user[:-1])
    tied = np.append(tie, False) | np.append(False, tie)
    return Times(
        first=_written(int(instants[0])),
        last=_written(int(instants[-1])),
        before_1990=int((time < YEAR_1990).sum()),
        future=int((time > clock.time() * 1000 + DAY).sum()),
        instants=len(instants),
        busiest=float(counts[at] / len(time)),
        busiest_at=_written(int(instants[at])),
        midnight=float((time % DAY == 0).mean()),
        tied=float(tied.mean()),
        before_training=None if isinstance(held, Skipped) else _before_training(data, held),
    )


def _before_training(data: Interactions, held: HeldOut) -> float | None:
    """Share of the held-out pairs, drawn without regard to time, that precede a training target."""
    if data.time is None or held.rule in ("time", "last"):
        return None
    pairs = CSR.from_pairs(held.users, held.items, data.n_users, data.n_items)
    at = np.flatnonzero(data.code == len(data.behaviors) - 1)
    users, items, time = data.user[at], data.item[at], data.time[at]
    out = pairs.contains(users, items)
    latest = np.full(data.n_users, np.iinfo(np.int64).min)
    np.maximum.at(latest, users[~out], time[~out])
    # Events of a user are in order of time: the first of a pair is its first purchase.
    keys = users[out].astype(np.int64) * data.n_items + items[out]
    if not len(keys):
        return None
    _, first = np.unique(keys, return_index=True)
    return float((time[out][first] < latest[users[out][first]]).mean())


def _written(milliseconds: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return f"{milliseconds} ms"
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
