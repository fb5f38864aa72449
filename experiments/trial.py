"""Quick trials of settings: validation only, and a third of the users, to compare before a search.

    python experiments/trial.py '{"model": "nmtr-mlp", "layers": [64], "l2": 0.01, "epochs": 6}' ...

Adds a line for each to results/trials.jsonl: the settings, and loss and NDCG@100 after each epoch.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from common import RESULTS, beibei

from nmtr.data.interactions import Interactions
from nmtr.data.records import Histories, Records
from nmtr.data.split import Evaluation, Split, split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.trainer import Training, train

USERS, EVALUATED = 6_500, 3_000


def main(trials: list[str]) -> None:
    torch.set_num_threads(1)
    data = beibei()
    records, evaluation = sample(data, split(data, "as-published", fold="validation"))
    of_training = {each.name for each in fields(Training)}
    for line in trials:
        given = json.loads(line)
        chosen: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in given.items()
        }
        name, epochs = chosen.pop("model"), chosen.pop("epochs")
        options = {key: value for key, value in chosen.items() if key not in of_training}
        training = Training(
            select="ndcg@100", patience=epochs, calibrate=False,
            **{key: value for key, value in chosen.items() if key in of_training},
        )  # fmt: skip
        torch.manual_seed(training.seed)
        model = make(name, options, Shape(USERS, data.n_items, data.behaviors))

        def measure(model: Model) -> dict[str, float]:
            values = per_user(ranks(model, evaluation), evaluation.truth.indptr)
            return {"ndcg@100": float(values["ndcg@100"].mean())}

        found = train(model, records, training, phase="trial", epochs=epochs, measure=measure)
        series = {
            key: [round(each[key], 4) for each in found.history] for key in ("ndcg@100", "loss")
        }
        text = json.dumps({"settings": given, **series})
        print(text)
        with (RESULTS / "trials.jsonl").open("a") as stream:
            stream.write(text + "\n")


def sample(data: Interactions, parts: Split) -> tuple[Records, Evaluation]:
    """The training records of so many users, and the evaluation of some of them."""
    users = np.sort(np.random.default_rng(0).permutation(data.n_users)[:USERS])
    place = np.full(data.n_users, -1)
    place[users] = np.arange(USERS)
    sets: tuple[Any, ...] = tuple(each.take(users) for each in parts.train.sets)
    whole = parts.evaluation
    rows = np.flatnonzero(place[whole.users] >= 0)[:EVALUATED]
    items = tuple(each.take(rows) for each in whole.histories.items)
    held = np.isin(whole.truth.row_of_each(), rows)
    return Records(parts.train.behaviors, sets), Evaluation(
        place[whole.users[rows]],
        Histories(place[whole.histories.users[rows]], items),
        whole.truth.take(rows),
        whole.mask.take(rows),
        whole.in_funnel[held],
        whole.sealed[rows],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
