"""Measures implicit: BPR's epochs, and the best k of its factor models for everyone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from worker import Spec, main, repeat

MODELS = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}


def load(spec: Spec) -> csr_matrix:
    """Users by items, 1 where there is a record."""
    found = np.load(spec.data)
    ones = np.ones(len(found["users"]), np.float32)
    shape = int(found["n_users"]), int(found["n_items"])
    return csr_matrix((ones, (found["users"], found["items"])), shape=shape)


def fit(spec: Spec, pairs: csr_matrix, epochs: int) -> tuple[Any, float]:
    """A fitted model, and the seconds that took."""
    threads = spec.threads
    model = MODELS[spec.model](**spec.options, iterations=epochs, num_threads=threads)
    began = time.perf_counter()
    model.fit(pairs, show_progress=False)
    return model, time.perf_counter() - began


def trains(spec: Spec, pairs: csr_matrix) -> Mapping[str, float]:
    """Seconds of an epoch: what more epochs cost than one, so that no set-up is in it."""
    fit(spec, pairs, 1)
    one = fit(spec, pairs, 1)[1]
    epochs = 2 + int(spec.seconds / max(one, 1e-3))
    seconds = (fit(spec, pairs, epochs)[1] - one) / (epochs - 1)
    return {"seconds_per_epoch": seconds, "positives_per_second": pairs.nnz / seconds}


def tops(spec: Spec, pairs: csr_matrix) -> Mapping[str, float]:
    """Users a second: recommend() in batches, what the user has left out."""
    model, seconds = fit(spec, pairs, spec.training.get("epochs", 15))
    users = np.arange(pairs.shape[0])
    step = spec.batch or len(users)

    def rank() -> None:
        for start in range(0, len(users), step):
            chosen = users[start : start + step]
            model.recommend(chosen, pairs[chosen], N=spec.k, filter_already_liked_items=True)

    rank()
    each = repeat(rank, seconds=spec.seconds)
    return {"users_per_second": len(users) / each, "fit_seconds": seconds}


if __name__ == "__main__":
    main(load, {"train": trains, "top": tops})
