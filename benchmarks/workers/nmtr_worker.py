"""Measures nmtr: loading, training, ranking."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from worker import SkippedError, Spec, Window, main, repeat

from nmtr.data.interactions import Interactions
from nmtr.data.interactions import load as load_data
from nmtr.data.records import Histories, Records
from nmtr.data.split import Evaluation, split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks, top
from nmtr.models import make, names
from nmtr.models.base import Model, Shape
from nmtr.training.run import sample_users
from nmtr.training.step import Step
from nmtr.training.trainer import Training, train
from nmtr.training.weights import read_tensors, write_tensors

WARM_USERS = 64
PROTOCOL = "as-published"


@dataclass(frozen=True)
class Subject:
    """A data set opened, and what of it trains."""

    data: Interactions
    train: Records
    evaluation: Evaluation | None


class OverError(Exception):
    """Ends a training whose window is over."""


def load(spec: Spec) -> Subject:
    """Open the data set and take the records to train on."""
    torch.set_num_threads(spec.threads)
    data = load_data(Path(spec.data))
    if spec.fold == "all":
        records, evaluation = data.records(), None
    else:
        parts = split(data, PROTOCOL, fold="validation")
        records = parts.train
        evaluation = sample_users(data, parts.evaluation, spec.users)
    if spec.target_only:
        records = Records(records.behaviors[-1:], records.sets[-1:])
    return Subject(data, records, evaluation)


def model_of(spec: Spec, subject: Subject) -> Model:
    """The model that the spec names, with its weights where they are given."""
    if spec.model not in names():
        raise SkippedError(f"nmtr has no model {spec.model}")
    torch.manual_seed(0)
    users, items = spec.shape or (subject.data.n_users, subject.data.n_items)
    model = make(spec.model, spec.options, Shape(users, items, subject.train.behaviors))
    if spec.weights and Path(spec.weights).exists():
        model.load_state_dict(read_tensors(Path(spec.weights))[0])
    return model.to(spec.device)


def training_of(spec: Spec) -> Training:
    settings = {**spec.training, "device": spec.device, "threads": spec.threads}
    if "negatives" in settings:
        settings["negatives"] = tuple(settings["negatives"])
    return Training(**settings)


def trains(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Labelled samples a second; each positive counts with its negatives, in every behaviour."""
    model, config = model_of(spec, subject), training_of(spec)
    window = Window(spec.seconds, spec.box)

    def report(step: Step) -> None:
        if window.step(step.epoch, step.step, step.steps):
            raise OverError

    with suppress(OverError):
        train(model, subject.train, config, phase="benchmark", epochs=10**6, report=report)
    counts = config.negatives * len(subject.train.sets)
    positives = [each.nnz for each in subject.train.sets]
    samples = sum(n * (1 + k) for n, k in zip(positives, counts, strict=False))
    seconds = window.seconds_per_epoch
    return {
        "samples_per_second": samples / seconds,
        "positives_per_second": sum(positives) / seconds,
        "seconds_per_epoch": seconds,
        "setup_seconds": window.setup,
    }


def fits(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Train for real and keep the weights, so that rankings are timed on a model that has learned.

    Pruning by bounds does nothing for random weights, and everything for some.
    """
    model, config = model_of(spec, subject), training_of(spec)
    began = time.perf_counter()

    def report(*_: object) -> None:
        if time.perf_counter() - began > spec.fitting:
            raise OverError

    with suppress(OverError):
        train(model, subject.train, config, phase="fit", epochs=config.epochs, report=report)
    seconds = time.perf_counter() - began
    write_tensors(Path(spec.weights), model.state_dict(), {})
    return {"fit_seconds": seconds}


def tops(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Users a second: the best k items of each, the target's items masked."""
    model, how = model_of(spec, subject), _how(spec)
    users = np.arange(subject.data.n_users)
    if spec.users:
        users = users[:: max(1, len(users) // spec.users)][: spec.users]

    def rank(who: np.ndarray[Any, np.dtype[np.int64]]) -> object:
        mask = subject.train.target.take(who)
        tie_break = subject.data.item_hash
        histories = subject.train.histories(who)
        return top(model, histories, mask, k=spec.k, tie_break=tie_break, **how)

    rank(users[:WARM_USERS])
    return {"users_per_second": len(users) / repeat(lambda: rank(users), seconds=spec.seconds)}


def _how(spec: Spec) -> dict[str, Any]:
    if spec.precision == "float32":
        return {}
    if "precision" not in inspect.signature(top).parameters:
        raise SkippedError("nmtr ranks in float32 alone (NOTES.md)")
    return {"precision": spec.precision}


def places(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Users a second: where each held-out item stands among all."""
    model, evaluation = model_of(spec, subject), subject.evaluation
    assert evaluation is not None, "ranks need a fold with held-out items"
    ranks(model, _first(evaluation, WARM_USERS))
    seconds = repeat(lambda: ranks(model, evaluation), seconds=spec.seconds)
    values = per_user(ranks(model, evaluation), evaluation.truth.indptr)
    return {
        "ranked_per_second": len(evaluation.users) / seconds,
        "ndcg@100": float(values["ndcg@100"].mean()),
    }


def _first(evaluation: Evaluation, users: int) -> Evaluation:
    rows = np.arange(min(users, len(evaluation.users)))
    histories = evaluation.histories
    return replace(
        evaluation,
        users=evaluation.users[rows],
        histories=Histories(histories.users[rows], tuple(e.take(rows) for e in histories.items)),
        truth=evaluation.truth.take(rows),
        mask=evaluation.mask.take(rows),
        in_funnel=evaluation.in_funnel[: evaluation.truth.indptr[len(rows)]],
        sealed=evaluation.sealed[rows],
    )


if __name__ == "__main__":
    known = {"load": lambda *_: {}, "train": trains, "fit": fits, "top": tops, "rank": places}
    main(load, known)
