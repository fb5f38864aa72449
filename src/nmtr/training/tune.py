"""Tuning: a model's settings chosen by trials on validation.

Each trial is a run's selection phase: training on the log less test and validation, validation
ranked after every epoch. The test is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from nmtr.data.interactions import Interactions
from nmtr.data.split import split
from nmtr.errors import NmtrError, UsageError
from nmtr.models.base import Model
from nmtr.models.space import Space, axes
from nmtr.training.search import Budget, Notify, Objective, Search, Watch
from nmtr.training.selection import Selection, new_model
from nmtr.training.settings import Settings, resolve
from nmtr.training.step import Report, Step
from nmtr.training.study import opened
from nmtr.training.trainer import train
from nmtr.training.tuned import Found, write


def tune(
    data: Interactions,
    settings: Settings,
    path: Path,
    *,
    fixed: Collection[str] = (),
    budget: Budget | None = None,
    report: Report | None = None,
    notify: Notify | None = None,
    resumed: Callable[[int], None] | None = None,
    workers: int = 0,
) -> Found:
    """Search a model's space on validation; keep the study at `path`, or go on with it.

    fixed: options that keep their value; resumed: told how many trials are there already, where a
    study goes on; workers: of Ray, which then makes as many trials at once;
    0 to make them here. Raises UsageError where there is nothing to search, the
    settings do not fit, or the folder holds anything else; DataError where the protocol's test has
    no users, of whom it reads no rank; NmtrError where no trial came to an end.
    """
    budget = budget or Budget()
    model = new_model(data, settings)
    settings = resolve(data, settings, model)
    space = searched(settings, model, fixed)
    split(data, settings.protocol)  # raises where nobody is left to judge the winner by
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    objective = selection_phase(data, settings, report)
    about = {
        "model": settings.model,
        "protocol": settings.protocol,
        "metric": settings.training.select,
        "data": data.fingerprint(),
        "settings": asdict(settings),
    }
    with opened(path, about, axes(space, data.behaviors)) as study:
        if resumed and (before := len(study.trials())):
            resumed(before)
        study.begin_session({**asdict(budget), "threads": torch.get_num_threads()})
        search = Search(study, settings, space, data.behaviors, objective, notify)
        if workers:
            from nmtr.training.ray_tune import RaySearch

            search = RaySearch.of(search, data, workers)
        ended = "interruption"
        try:
            ended = search.run(budget)
        finally:
            found = Found.of(search, about, ended)
            write(found, path)
    if found.best is None:
        errors = [f": {each.error}" for each in found.trials if each.error]
        raise NmtrError(
            f"{path}: none of {len(found.trials)} trials came to an end{''.join(errors[-1:])}; "
            "give more --minutes or --trials, or other options"
        )
    return found


def searched(settings: Settings, model: Model, fixed: Collection[str]) -> Space:
    """What is to be searched; raises UsageError where that is nothing."""
    if not hasattr(model.config, "space"):
        raise UsageError(f"{settings.model} has no options to tune; use `nmtr train`")
    if settings.training.select == "none":
        raise UsageError(
            "select=none leaves validation out, and tuning chooses by it; name a metric, as in "
            "--set select=ndcg@100"
        )
    whole: Space = model.config.space()
    space = {name: each for name, each in whole.items() if not each.sets(name) & set(fixed)}
    if not axes(space, model.shape.behaviors):
        raise UsageError(
            f"all that {settings.model} is tuned by ({', '.join(whole)}) has a value that was set; "
            "leave an option free"
        )
    return space


def selection_phase(data: Interactions, base: Settings, report: Report | None = None) -> Objective:
    """An objective: the best value of the metric that a training reaches, and the epoch."""
    selection, metric = Selection.of(data, base), base.training.select
    measure = selection.measure(metric)

    def objective(settings: Settings, watch: Watch) -> tuple[float, int]:
        model = new_model(data, settings)
        training = resolve(data, settings, model).training

        def measured(model: Model) -> Mapping[str, float]:
            values = measure(model)
            watch.epoch(values, warm_up=model.warm_up)
            return values

        def stepped(step: Step) -> None:
            watch.step()
            if report:
                report(step)

        if not model.trained:
            model.learn(selection.records)
            return measured(model)[metric], 0
        done = train(
            model,
            selection.records,
            training,
            phase="selection",
            epochs=training.epochs,
            measure=measured,
            report=stepped,
        )
        return done.best_value, done.best_epoch

    return objective
