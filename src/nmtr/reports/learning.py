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
                "Validation chose nothing here: the run was told to train "
                f"{epochs(subject.run.epochs)}."
            )
        )
    fallen = phases.get("refit", lines)
    losses = {PHASES[name]: _points(found, "loss") for name, found in phases.items()}
    blocks += [
        Text(
            f"The last training took {epochs(len(fallen))} and "
            f"{sum(each.get('seconds', 0.0) for each in fallen):,.1f} s; {_loss(fallen)}."
        ),
        Drawing(
            [curves("Loss", losses, xlabel="epoch")],
            "Mean training loss of each epoch. Phases see different records, so that their levels "
            "differ a little.",
            key=[PHASES[each] for each in phases],
        ),
    ]
    return Section("learning", "Learning curves", blocks)


def epochs(count: int) -> str:
    """So many epochs, in words."""
    return f"{count} epoch{'' if count == 1 else 's'}"


def _loss(lines: Lines) -> str:
    first, last = lines[0]["loss"], lines[-1]["loss"]
    went = f"went from {first:.4f} to {last:.4f}" if len(lines) > 1 else f"was {last:.4f}"
    return f"its loss {went}"


def _selection(subject: Subject, lines: Lines) -> list[Block]:
    metrics = [each for each in ("ndcg@100", "hr@100") if each in lines[0]]
    chosen = subject.run.epochs
    metric = subject.run.settings.training.select
    at = next((each for each in lines if each["epoch"] == chosen), None)
    words = f"Validation chose epoch {chosen} of {len(lines)}"
    if at and metric in at:
        words += f", where {metric.upper()} was {at[metric]:.4f}"
        words += f" ({lines[0][metric]:.4f} after the first)" if at is not lines[0] else ""
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
