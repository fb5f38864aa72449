"""Measures time to quality: a whole run of nmtr from a prepared log, and the linear model to reach.

The settings file says protocol, epochs and how many validation users there are; EASE on the target
alone is fitted to the same records and judged on the same users. The test is not read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker import Spec, main

from nmtr.data.interactions import Interactions
from nmtr.data.interactions import load as load_data
from nmtr.data.split import split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.run import Settings, execute, read_settings, sample_users

METRIC = "ndcg@100"


def load(spec: Spec) -> Interactions:
    """Open the data set; the environment says how many threads there are."""
    return load_data(Path(spec.data))


def settings_of(spec: Spec) -> Settings:
    """The settings file's, with what the spec changes."""
    settings, _ = read_settings(Path(spec.options["config"]))
    changes: dict[str, Any] = {"threads": spec.threads, "device": spec.device, **spec.training}
    training = replace(settings.training, **changes)
    users = spec.users or settings.validation_users
    return replace(settings, training=training, validation_users=users)


def runs(spec: Spec, data: Interactions) -> Mapping[str, float]:
    """What `nmtr train --config` does, whole: selection on validation, then the refit."""
    settings = settings_of(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        run = execute(data, settings, path)
        report = json.loads((path / "report-validation.json").read_text())
    return {METRIC: report["models"][settings.model]["all"][METRIC]["mean"], "epochs": run.epochs}


def linear(spec: Spec, data: Interactions) -> Mapping[str, float]:
    """EASE on the target alone, on the same validation."""
    settings = settings_of(spec)
    parts = split(data, settings.protocol, fold="validation")
    evaluation = sample_users(data, parts.evaluation, settings.validation_users)
    model = make("ease", {}, Shape(data.n_users, data.n_items, data.behaviors))
    model.learn(parts.train)
    values = per_user(ranks(model, evaluation), evaluation.truth.indptr)
    return {METRIC: float(values[METRIC].mean())}


if __name__ == "__main__":
    main(load, {"run": runs, "ease": linear})
