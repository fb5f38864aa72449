"""What the model recommends to users of the log, popularity and replay beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.vocabulary import mix
from nmtr.evaluation.ranking import top
from nmtr.reports.subject import Subject

K = 10
USERS = 2000  # a sample by hash: enough for what is told of lists
SALT = 91


@dataclass(frozen=True)
class Top:
    """A model's best K items: items (U, K), -1 where there are fewer; logits (U, R, K)."""

    items: npt.NDArray[np.int64]
    levels: npt.NDArray[np.float32]

    def lists(self, n_items: int) -> CSR:
        rows, at = np.nonzero(self.items >= 0)
        return CSR.from_pairs(rows, self.items[rows, at], len(self.items), n_items)


@dataclass(frozen=True)
class Recommended:
    """Lists of a sample of users; what they had bought is left out, unless it may come again."""

    users: npt.NDArray[np.int64]
    histories: Histories
    tops: Mapping[str, Top]


def recommend(subject: Subject) -> Recommended:
    """Rank for a sample of the users with training records."""
    data, train = subject.run.data, subject.train
    users = sample(train, data.user_hash)
    histories = train.histories(users)
    target = histories.items[-1]
    mask = target if not data.repurchase else target.take(np.full(len(users), -1))
    tops = {}
    for name, model in subject.models.items():
        order = np.asarray(data.item_hash)
        items, _, levels = top(model, histories, mask, k=K, tie_break=order)
        tops[name] = Top(items, levels)
    return Recommended(users, histories, tops)


def sample(train: Records, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """At most USERS of the users with training records, by a hash of their ids."""
    known = np.flatnonzero(train.seen().lengths() > 0)
    order = np.argsort(mix(hashes[known], hashes[known], salt=SALT))
    return np.sort(known[order[:USERS]])
