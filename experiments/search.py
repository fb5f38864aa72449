"""Choose an experiment's settings on validation: every combination of its [search] lists.

    python experiments/search.py nmtr-gmf

Writes results/search-NAME.csv as it goes, a line per epoch; a combination that stands there is not
run again. The test is not read.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from common import RESULTS, beibei, read

from nmtr.data.split import split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.run import sample_users
from nmtr.training.trainer import Training, train

METRICS = ("hr@50", "ndcg@50", "hr@100", "ndcg@100", "hr@200", "ndcg@200")


def main(name: str) -> None:
    settings, space = read(name)
    data = beibei()
    torch.set_num_threads(settings.training.threads or torch.get_num_threads())
    parts = split(data, settings.protocol, fold="validation")
    evaluation = sample_users(data, parts.evaluation, settings.validation_users)

    def measure(model: Model) -> Mapping[str, float]:
        values = per_user(ranks(model, evaluation), evaluation.truth.indptr)
        return {each: float(values[each].mean()) for each in METRICS}

    epochs = int(space.pop("epochs"))  # type: ignore[call-overload]  # the one entry that is no list
    table = RESULTS / f"search-{name}.csv"
    done = _done(table, list(space))
    for values in itertools.product(*space.values()):
        if tuple(map(str, values)) in done:
            continue
        chosen = dict(zip(space, values, strict=True))
        of_training = {each.name for each in fields(Training)}
        training = replace(
            settings.training,
            select="ndcg@100",
            **{key: value for key, value in chosen.items() if key in of_training},
        )
        of_model = {key: value for key, value in chosen.items() if key not in of_training}
        options = {**settings.options, **of_model}
        torch.manual_seed(training.seed)
        model = make(settings.model, options, Shape(data.n_users, data.n_items, data.behaviors))
        found = train(
            model, parts.train, training, phase="selection", epochs=epochs, measure=measure
        )
        shown = ("epoch", "loss", "seconds", *METRICS)
        rows = [{**chosen, **{key: line[key] for key in shown}} for line in found.history]
        _append(table, rows)
        best = max(rows, key=lambda row: row["ndcg@100"])
        print(chosen, "best epoch", best["epoch"], *(f"{key} {best[key]:.4f}" for key in METRICS))


def _done(table: Any, keys: list[str]) -> set[tuple[str, ...]]:
    if not table.exists():
        return set()
    with table.open() as stream:
        return {tuple(row[key] for key in keys) for row in csv.DictReader(stream)}


def _append(table: Any, rows: list[dict[str, Any]]) -> None:
    new = not table.exists()
    with table.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({key: _cell(key, value) for key, value in row.items()} for row in rows)


def _cell(key: str, value: Any) -> Any:
    """Measured numbers to five places; settings as they are."""
    return f"{value:.5f}" if key in ("loss", "seconds", *METRICS) else value


if __name__ == "__main__":
    main(sys.argv[1])
