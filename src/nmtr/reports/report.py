"""The report of a run as one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import tomli_w

from nmtr import __version__
from nmtr.errors import UsageError
from nmtr.files import write_text
from nmtr.pages.blocks import Points, Section, Table, Text, literal
from nmtr.pages.html import page
from nmtr.reports.accuracy import NONE, accuracy_section, activity_section, verdict
from nmtr.reports.examples import examples_section
from nmtr.reports.learning import epochs, learning_section
from nmtr.reports.lists import lists_section
from nmtr.reports.log import audit_section, funnel_section
from nmtr.reports.probability import probability_section
from nmtr.reports.recommended import recommend
from nmtr.reports.subject import Subject
from nmtr.reports.vectors import map_section
from nmtr.training.run import Run

NAME = "report.html"


def write_report(run: Run, out: Path | None = None) -> Path:
    """Write the report of a run that is in a folder, into it or to `out`; returns where.

    Reads no test: the rankings are those that the run keeps. Raises UsageError where the run is in
    no folder, or `out` is one.
    """
    if run.path is None:
        raise UsageError("this run is in no folder: save it first, then report on it")
    out = out or run.path / NAME
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file, such as {out / NAME}")
    write_text(out, html(Subject(run, run.path)))
    return out


def html(subject: Subject) -> str:
    """The page."""
    found = recommend(subject)
    lists, of_lists = lists_section(subject, found)
    sections = [
        audit_section(subject),
        funnel_section(subject),
        learning_section(subject),
        accuracy_section(subject),
        activity_section(subject),
        probability_section(subject),
        lists,
        examples_section(subject, found),
        map_section(subject),
        _settings(subject),
    ]
    points = [*_verdicts(subject), of_lists]
    summary = Section("summary", "In short", [Points(points)])
    title = f"{subject.model}, {literal(subject.path.resolve().name)}"
    return page(title, [summary, *sections], lead=_lead(subject))


def _lead(subject: Subject) -> str:
    run = subject.run
    behaviors = ", ".join(run.data.behaviors)
    how = f"fitted for {epochs(run.epochs)}" if run.model.trained else "which counts"
    return (
        f"{subject.model}, {how}, protocol {run.settings.protocol}, on {run.data.n_users:,} users "
        f"and {run.data.n_items:,} items ({behaviors}). Beside it everywhere: popularity and "
        "replay, which remember and do not learn. No test was read for this page."
    )


def _verdicts(subject: Subject) -> Iterator[str]:
    for each in subject.ranked:
        yield verdict(subject, each)
    if not subject.ranked:
        yield NONE
    yield from subject.audit.verdicts[:1]


def _settings(subject: Subject) -> Section:
    run = subject.run
    about = [
        ("nmtr", __version__),
        ("data set's fingerprint", run.data.fingerprint()),
        ("seed", str(run.settings.training.seed)),
    ]
    lines = tomli_w.dumps(asdict(run.settings)).splitlines()
    settings = [each.partition(" = ")[::2] for each in _joined(lines)]
    rows = [(literal(name), literal(value, most=200)) for name, value in [*about, *settings]]
    return Section(
        "settings",
        "Settings",
        [
            Text("What `nmtr train --config` repeats the run with."),
            Table("", ("setting", "value"), rows, left=2),
        ],
    )


def _joined(lines: list[str]) -> Iterator[str]:
    """TOML with arrays on one line, and without headings."""
    held = ""
    for line in lines:
        held += line.strip() if held else line
        if held.endswith("["):
            continue
        if held.count("[") == held.count("]") and " = " in held:
            yield held.replace(",]", "]").replace(",", ", ")
            held = ""
        elif " = " not in held:
            held = ""
