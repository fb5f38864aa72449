"""Measures lightfm-next: WARP's epochs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from lightfm import LightFM
from scipy.sparse import coo_matrix
from worker import Spec, main, repeat


def load(spec: Spec) -> coo_matrix:
    """Users by items, 1 where there is a record."""
    found = np.load(spec.data)
    ones = np.ones(len(found["users"]), np.float32)
    shape = int(found["n_users"]), int(found["n_items"])
    return coo_matrix((ones, (found["users"], found["items"])), shape=shape)


def trains(spec: Spec, pairs: coo_matrix) -> Mapping[str, float]:
    """Seconds of an epoch, once the first is over."""
    model = LightFM(loss=spec.model, **spec.options)

    def epoch() -> None:
        model.fit_partial(pairs, epochs=1, num_threads=spec.threads)

    epoch()
    seconds = repeat(epoch, seconds=spec.seconds)
    return {"seconds_per_epoch": seconds, "positives_per_second": pairs.nnz / seconds}


if __name__ == "__main__":
    main(load, {"train": trains})
