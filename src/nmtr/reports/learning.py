"""How the model learned: its loss, and what validation saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nmtr.pages.blocks import Block, Drawing, Section, Text
from nmtr.pages.charts import curves
from nmtr.reports.subject import Subject
from nmtr.training.folder import open_history

PHASES = {
    "selection": "selection, without test and validation",
    "calibration": "calibration, without a tenth of the cells",
    "refit": "refit, on all but the test",
}
Lines = Sequence[Mapping[str, Any]]


def learning_section(subject: Subject) -> Section:
    """The curves, or why there are none."""
    lines = open_history(subject.path)
    if not lines:
        what = "it was saved without them" if subject.run.model.trained else "it counts"
        words = f"{subject.model} has no learning curves: {what}."
        return Section("learning", "Learning curves", [Text(words)])
    phases = {name: [x for x in lines if x["phase"] == name] for name in PHASES}
    phases = {name: found for name, found in phases.items() if found}
    blocks: list[Block] = []
    if "selection" in phases:
        blocks += _selection(subject, phases["selection"])
    else:
        blocks.append(
            Text(
                f"Validation chose nothing here: the run was told to train {subject.run.epochs} "
                "epoch(s)."
            )
        )
    fallen = phases.get("refit", lines)
    losses = {PHASES[name]: _points(found, "loss") for name, found in phases.items()}
    blocks += [
        Text(
            f"The loss went from {fallen[0]['loss']:.4f} to {fallen[-1]['loss']:.4f} in the "
            f"{len(fallen)} epoch(s) of the last training, which took "
            f"{sum(each.get('seconds', 0.0) for each in fallen):,.1f} s."
        ),
        Drawing(
            [curves("Loss", losses, xlabel="epoch")],
            "Mean training loss of each epoch. Phases see different records, so that their levels "
            "differ a little.",
            key=[PHASES[each] for each in phases],
        ),
    ]
    return Section("learning", "Learning curves", blocks)


def _selection(subject: Subject, lines: Lines) -> list[Block]:
    metrics = [each for each in ("ndcg@100", "hr@100") if each in lines[0]]
    chosen = subject.run.epochs
    metric = subject.run.settings.training.select
    at = next((each for each in lines if each["epoch"] == chosen), None)
    words = f"Validation chose epoch {chosen} of {len(lines)}"
    if at and metric in at:
        first = lines[0][metric]
        words += f", where {metric.upper()} was {at[metric]:.4f} ({first:.4f} after the first)"
    if chosen == lines[-1]["epoch"] and len(lines) > 1:
        words += "; that was the last one tried, so more epochs may do better"
    levels = {each: _levels(subject, each) for each in metrics}
    drawn = [
        curves(
            f"{each.upper()} on validation", {subject.model: _points(lines, each)},
            xlabel="epoch", levels=list(levels[each].values()), chosen=chosen,
        )
        for each in metrics
    ]  # fmt: skip
    caption = "The model after each epoch, ranking every item for the users of validation"
    shown = next(iter(levels.values()), {})
    caption += "; dashed: what memory alone reaches." if shown else "."
    return [Text(f"{words}."), Drawing(drawn, caption, key=[subject.model, *shown])]


def _points(lines: Lines, name: str) -> list[tuple[float, float]]:
    return [(float(each["epoch"]), float(each[name])) for each in lines if name in each]


def _levels(subject: Subject, metric: str) -> dict[str, float]:
    """What popularity and replay reach on the same validation."""
    ranked = next((each for each in subject.ranked if each.title.startswith("validation")), None)
    results = ranked.results if ranked else {}
    return {
        name: float(results[name].values["all"][metric].mean())
        for name in subject.names[1:]
        if name in results and metric in results[name].values["all"]
    }
