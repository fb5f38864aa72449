"""A prepared data set with fewer records: some behaviours alone, or a share of the auxiliary ones.

Users, items, their indices and the hold-out stay what they were, so that models trained on parts of
a log are ranked on the same held-out pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nmtr.data.interactions import Interactions
from nmtr.data.vocabulary import mix
from nmtr.errors import UsageError

SALT = 101  # apart from those of the hold-outs


def subset(
    data: Interactions, behaviors: Sequence[str], *, share: float = 1.0, seed: int = 0
) -> Interactions:
    """The events of these behaviours, in the data's order, the target among them.

    share: of each auxiliary behaviour's pairs, about how many are kept, drawn by a hash of the ids,
    the behaviour's level and the seed; target records all stay. Raises UsageError for behaviours
    that the data do not have, without the target, or for a share outside 0 to 1.
    """
    names = data.behaviors
    for each in behaviors:
        if each not in names:
            raise UsageError(f"no behaviour '{each}' in the data; it has {', '.join(names)}")
    if names[-1] not in behaviors:
        raise UsageError(f"expected the target, {names[-1]}, among {', '.join(behaviors)}")
    if not 0 < share <= 1:
        raise UsageError(f"share: expected more than 0 and at most 1, got {share}")
    kept = [r for r, name in enumerate(names) if name in behaviors]
    level = np.where(data.code >= 0, data.code, -1 - data.code).astype(np.int64)
    keep = np.isin(level, kept)
    if share < 1:
        keep &= (level == len(names) - 1) | _drawn(data, level, share, seed)
    place = np.full(len(names), -1, np.int8)
    place[kept] = np.arange(len(kept))
    new = place[level[keep]]
    code = np.where(data.code[keep] >= 0, new, -1 - new).astype(np.int8)
    counts = np.bincount(data.user[keep], minlength=data.n_users)
    about = {name: value for name, value in data.manifest.items() if name != "fingerprint"}
    chosen = [names[r] for r in kept]
    about |= {
        "behaviors": chosen,
        "events": int(keep.sum()),
        "events_per_behavior": {name: int((code == r).sum()) for r, name in enumerate(chosen)},
        "undo_events": int((code < 0).sum()),
        "subset": {"of": data.fingerprint(), "share": share, "seed": seed},
    }
    return replace(
        data,
        manifest=about,
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=np.asarray(data.item[keep]),
        code=code,
        time=None if data.time is None else np.asarray(data.time[keep]),
        path=None,
    )


def _drawn(
    data: Interactions, level: npt.NDArray[np.int64], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """(events,) whether the event's pair is kept under its behaviour; all its events alike."""
    found = np.zeros(len(level), np.bool_)
    for r in range(len(data.behaviors)):
        mine = level == r
        users, items = data.user_hash[data.user[mine]], data.item_hash[data.item[mine]]
        found[mine] = mix(users, items, salt=SALT + r + 64 * seed) < share * 2.0**64
    return found
