"""Whether probabilities come true, behaviour by behaviour."""

from __future__ import annotations

from nmtr.evaluation.reliability import Reliability
from nmtr.pages.blocks import Block, Drawing, Folded, Points, Section, Table, Text
from nmtr.pages.panel import Panel, Scale
from nmtr.reports.subject import Subject
from nmtr.training.folder import open_reliability

HOW = (
    "A tenth of all cells (one user with one item) was held out, by a hash; a model that never saw "
    "their records scored them, and the calibration of one half of the users was judged on the "
    "other half. Each mark is a group of cells that expects as many records as any other; lines "
    "are 95 % bootstrap intervals over users; on the diagonal, what is said is what happens. The "
    "final model is fitted to all records, and its mean is moved to the observed rate."
)


def probability_section(subject: Subject) -> Section:
    """Reliability diagrams, or why there are none."""
    return Section("calibration", "Calibration", _blocks(subject))


def _blocks(subject: Subject) -> list[Block]:
    run = subject.run
    if not run.model.probabilistic:
        return [
            Text(
                f"{subject.model} gives scores, which order items and are no probabilities: there "
                "is nothing to calibrate."
            )
        ]
    if run.calibration is None:
        return [
            Text(
                "This run has no calibration (it was trained with `--set calibrate=false`): its "
                "scores order items and are no probabilities."
            )
        ]
    found = open_reliability(subject.path)
    if not found:
        return [
            Text(
                "This run has probabilities, but not how far they come true: too few users, or an "
                "older nmtr trained it. Train it again to see that."
            )
        ]
    return [
        Points([_sentence(each) for each in found]),
        Drawing([_panel(each) for each in found], HOW),
        Folded("The numbers", [_table(each) for each in found]),
    ]


def _sentence(found: Reliability) -> str:
    top = found.bins[-1]
    return (
        f"P({found.behavior}): where it was highest, it said {top.predicted:.3g} on average and "
        f"{top.observed:.3g} came true ({top.low:.3g} to {top.high:.3g}); over all cells, where "
        f"{found.rate:.3g} came true, it is off by {found.error:.2g} on average."
    )


def _panel(found: Reliability) -> str:
    values = [x for b in found.bins for x in (b.predicted, b.observed, b.low, b.high)]
    scale = Scale.over(values, log=True)
    panel = Panel(
        f"P({found.behavior})", scale, scale, "probability given", "share that came true",
        grid_x=True, height=320,
    )  # fmt: skip
    panel.line((scale.low, scale.low), (scale.high, scale.high))
    for each in found.bins:
        panel.reach(0, each.predicted, each.low, each.high)
        told = f"given {each.predicted:.3g}, came true {each.observed:.3g} of {each.cells:,} cells"
        panel.mark(0, each.predicted, each.observed, told)
    return panel.svg()


def _table(found: Reliability) -> Table:
    rows = [
        (f"{x.cells:,}", f"{x.predicted:.5f}", f"{x.observed:.5f}", f"{x.low:.5f}–{x.high:.5f}")
        for x in found.bins
    ]
    note = (
        f"{found.records:,} records in {found.cells:,} cells; expected calibration error "
        f"{found.error:.2g}."
    )
    return Table(
        f"P({found.behavior})", ("cells", "given", "came true", "95 % interval"), rows, note, left=0
    )
