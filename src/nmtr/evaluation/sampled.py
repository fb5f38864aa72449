"""Metrics among a few sampled items, as many papers report them, to show how far they mislead.

With n negatives drawn without return from the items that a full ranking ranks beside a held-out
one, how many of them stand before it is hypergeometric: r - 1 of the M - 1 others do, where r is
its full rank. So they are drawn from full ranks, and nothing is scored again. What this gives is no
estimate of the full metric and need not order models alike (Krichene and Rendle, KDD 2020).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from nmtr.data.split import Evaluation
from nmtr.data.vocabulary import mix
from nmtr.evaluation.metrics import FloatArray, per_user

NEGATIVES = 99  # the usual number
BLOCK = 20_000  # held-out items whose distributions are laid out at once
SALT = 6
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def sampled_ranks(
    ranks: Ints,
    candidates: Ints,
    *,
    negatives: int = NEGATIVES,
    seed: int = 0,
    keys: Keys | None = None,
) -> Ints:
    """(truths,) the rank, from 1, of each held-out item among itself and the sampled negatives.

    ranks: among all candidates, from 1; candidates: how many items were ranked for its user, itself
    one. Where fewer negatives exist, all are taken. keys: hashes that decide each draw with the
    seed, by default the places; two models meet the same chance, so that of two full ranks the
    better stays no worse. Raises ValueError for a rank past the last.
    """
    if len(ranks) and (ranks.min() < 1 or (ranks > candidates).any()):
        raise ValueError("expected ranks from 1 to the number of candidates")
    if keys is None:
        keys = np.arange(len(ranks), dtype=np.uint64)
    hashed = mix(keys, np.full_like(keys, seed), salt=SALT) >> np.uint64(11)
    chance = (hashed.astype(np.float64) + 0.5) * 2.0**-53
    found = np.empty(len(ranks), np.int64)
    for start in range(0, len(ranks), BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = 1 + _quantile(chance[part], ranks[part] - 1, candidates[part] - 1, negatives)
    return found


def beside_full(
    ranks: Ints,
    evaluation: Evaluation,
    keys: Keys,
    *,
    negatives: int = NEGATIVES,
    seed: int = 0,
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """{"hr@10": (full, sampled), ...}, each (U,), from the full ranks (truths,) of `ranking.ranks`.

    keys: (truths,) hashes of each held-out pair. An item is ranked among those that are neither
    masked nor held out; a user's value is the mean over their held-out items, and for a single one
    the full value is the report's. HR among 1 + 99 is 1 from 100 on.
    """
    truth = evaluation.truth
    rows, each = truth.row_of_each(), truth.lengths()
    order = np.lexsort((ranks, rows))
    better = np.empty(len(ranks), np.int64)  # other held-out items of the user that stand before
    better[order] = np.arange(len(ranks)) - truth.indptr[rows]
    candidates = (truth.n_columns - evaluation.mask.lengths() - each + 1)[rows]
    # A score that is no number ranks behind masked items too, which no candidate does.
    full = np.minimum(ranks - better, candidates)
    sampled = sampled_ranks(full, candidates, negatives=negatives, seed=seed, keys=keys)
    alone = np.arange(len(ranks) + 1)
    one, other = (per_user(place, alone) for place in (full, sampled))

    def mean(values: FloatArray) -> FloatArray:
        found: FloatArray = np.add.reduceat(values, truth.indptr[:-1]) / each
        return found

    return {name: (mean(one[name]), mean(other[name])) for name in one}


def pair_keys(user_hash: Keys, item_hash: Keys, evaluation: Evaluation) -> Keys:
    """(truths,) a hash of each held-out pair, from the data's hashes of users and of items."""
    truth = evaluation.truth
    users = evaluation.users[truth.row_of_each()]
    return mix(user_hash[users], item_hash[truth.indices], salt=SALT)


def _quantile(chance: FloatArray, before: Ints, others: Ints, negatives: int) -> Ints:
    """The hypergeometric number of `before` among `negatives` of `others`, at this probability.

    Its distribution is laid out whole: a column for each number from 0 to `negatives`.
    """
    drawn = np.minimum(negatives, others)[:, None]
    hits = np.arange(negatives + 1)
    before, others = before[:, None], others[:, None]
    after = others - before
    possible = (hits <= before) & (drawn - hits <= after) & (hits <= drawn)
    log = (
        _choose(before, np.where(possible, hits, 0))
        + _choose(after, np.where(possible, drawn - hits, 0))
        - _choose(others, drawn)
    )
    total = np.cumsum(np.where(possible, np.exp(log), 0.0), 1)
    found: Ints = (total < chance[:, None] * total[:, -1:]).sum(1)
    return found


def _choose(n: npt.NDArray[np.integer], k: npt.NDArray[np.integer]) -> FloatArray:
    """log of n over k."""
    found: FloatArray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found
