"""Metrics among a few sampled items, as many papers report them, to show how far they mislead.

With n negatives drawn without return from the items that a full ranking ranks beside a held-out
one, how many of them stand before it is hypergeometric: r - 1 of the M - 1 others do, where r is
its full rank. So they are drawn from full ranks, and nothing is scored again. What this gives is no
estimate of the full metric and need not order models alike (Krichene and Rendle, KDD 2020).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def sampled_ranks(ranks: Ints, candidates: Ints, *, negatives: int = 99, seed: int = 0) -> Ints:
    """(truths,) the rank, from 1, of each held-out item among itself and the sampled negatives.

    ranks: among all candidates, from 1; candidates: how many items were ranked for its user, itself
    one. Where fewer negatives exist, all are taken. Raises ValueError for a rank past the last.
    """
    if len(ranks) and (ranks.min() < 1 or (ranks > candidates).any()):
        raise ValueError("expected ranks from 1 to the number of candidates")
    before, after = ranks - 1, candidates - ranks
    drawn = np.minimum(negatives, candidates - 1)
    rng = np.random.default_rng(seed)
    found: Ints = 1 + rng.hypergeometric(before, after, drawn)
    return found
