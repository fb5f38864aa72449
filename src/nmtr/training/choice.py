"""A model chosen by validation among a small, budgeted set, for who has not named one.

Candidates are tried in order, each by a run's selection phase with its usual settings, until the
budget is spent; a training under way then keeps its best epoch so far. The test is not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nmtr.data.interactions import Interactions
from nmtr.errors import NmtrError
from nmtr.models.base import Model
from nmtr.training.selection import Selection, new_model
from nmtr.training.settings import Settings, resolve
from nmtr.training.step import Report, Step
from nmtr.training.trainer import train

EASY = 12_000  # items up to which EASE's matrices take seconds


@dataclass(frozen=True)
class Tried:
    """One candidate on validation. value: of the metric, None where it came to nothing."""

    model: str
    options: Mapping[str, Any]
    value: float | None
    seconds: float
    said: str = ""


@dataclass(frozen=True)
class Choice:
    """What was tried, best first, and the settings that won."""

    metric: str
    users: int
    tried: tuple[Tried, ...]
    settings: Settings

    def in_words(self) -> str:
        best = self.tried[0]
        others = ", ".join(
            f"{each.model} {each.value:.4f}" for each in self.tried[1:] if each.value
        )
        beyond = f"; {others}" if others else ""
        return (
            f"{best.model} is chosen: {self.metric} {best.value:.4f} on {self.users:,} users of "
            f"validation{beyond}. Compared with usual settings; `nmtr tune` searches for better."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "users": self.users,
            "tried": [asdict(x) for x in self.tried],
        }


def candidates(data: Interactions, protocol: str) -> list[tuple[str, dict[str, Any]]]:
    """Models and options, the cheap ones first; those that a large shop makes dear are left out."""
    several = len(data.behaviors) > 1
    found: list[tuple[str, dict[str, Any]]] = [("popularity", {})]
    if several:
        found.append(("replay", {}))
    found.append(("ials", {}))
    if data.n_items <= EASY:
        found.append(("ease", {}))
    if several:
        members = ("ease", "ease-all") if data.n_items <= EASY else ("ials-all",)
        options: dict[str, Any] = {"members": members}
        if protocol in ("time", "last"):
            # What is dated before a purchase need not be hidden from it.
            options |= {"recency": True, "hide": 0.0}
        if protocol != "time":
            options["counts"] = False  # where pairs are held out, these may tell which
        found.append(("nmtr-funnel", options))
        found.append(("nmtr-gmf", {}))
    else:
        found.append(("bpr", {}))
    return found


def choose(
    data: Interactions,
    base: Settings,
    minutes: float,
    *,
    report: Report | None = None,
    tell: Callable[[Tried], None] | None = None,
) -> Choice:
    """Try the candidates on validation for so many minutes. The first is always tried.

    base: protocol and training of all. Raises NmtrError where none came to an end.
    """
    until = time.monotonic() + 60 * minutes
    named = replace(base, model="popularity", options={})
    protocol = resolve(data, named, new_model(data, named)).protocol
    selection = Selection.of(data, replace(base, protocol=protocol))
    metric = base.training.select
    tried: list[Tried] = []
    for name, options in candidates(data, protocol):
        if tried and time.monotonic() >= until:
            break
        settings = replace(base, model=name, options=options, protocol=protocol)
        found = _try(data, settings, selection, until, report)
        tried.append(found)
        if tell:
            tell(found)
    tried.sort(key=lambda each: -(each.value or 0.0))
    if tried[0].value is None:
        raise NmtrError(f"no model came to an end on validation: {tried[0].said}")
    chosen = replace(base, model=tried[0].model, options=tried[0].options, protocol=protocol)
    return Choice(metric, len(selection.split.evaluation.users), tuple(tried), chosen)


class _Over(Exception):  # noqa: N818
    """The budget is spent in the middle of a training."""


def _try(
    data: Interactions,
    settings: Settings,
    selection: Selection,
    until: float,
    report: Report | None,
) -> Tried:
    began, values, said = time.monotonic(), [], ""
    measure, metric = selection.measure(settings.training.select), settings.training.select

    def measured(model: Model) -> Mapping[str, float]:
        found = measure(model)
        values.append(found[metric])
        return found

    def stepped(step: Step) -> None:
        if report:
            report(step)
        if values and time.monotonic() >= until:
            raise _Over

    try:
        model = new_model(data, settings)
        training = resolve(data, settings, model).training
        if model.trained:
            train(
                model,
                selection.records,
                training,
                phase=settings.model,
                epochs=training.epochs,
                measure=measured,
                report=stepped,
            )
        else:
            model.learn(selection.records)
            measured(model)
    except _Over:
        said = f"the budget ended after epoch {len(values)}"
    except NmtrError as error:
        said = str(error)
    seconds = round(time.monotonic() - began, 1)
    return Tried(settings.model, settings.options, max(values, default=None), seconds, said)
