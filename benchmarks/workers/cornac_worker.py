"""Measures Cornac: BPR's epochs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from cornac.data import Dataset
from cornac.models import BPR
from worker import Spec, main


def load(spec: Spec) -> Any:
    """Its data set, from triples."""
    found = np.load(spec.data)
    users, items = found["users"].tolist(), found["items"].tolist()
    return Dataset.from_uir(list(zip(users, items, [1.0] * len(users), strict=True)))


def fit(spec: Spec, data: Any, epochs: int) -> float:
    """Seconds of so many epochs; a seed would force it to one thread."""
    model = BPR(**spec.options, max_iter=epochs, num_threads=spec.threads, verbose=False)
    began = time.perf_counter()
    model.fit(data)
    return time.perf_counter() - began


def trains(spec: Spec, data: Any) -> Mapping[str, float]:
    """Seconds of an epoch: what more epochs cost than one, so that no set-up is in it."""
    fit(spec, data, 1)
    one = fit(spec, data, 1)
    epochs = 2 + int(spec.seconds / max(one, 1e-3))
    seconds = (fit(spec, data, epochs) - one) / (epochs - 1)
    return {"seconds_per_epoch": seconds, "positives_per_second": data.num_ratings / seconds}


if __name__ == "__main__":
    main(load, {"train": trains})
