"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.measurements import Measurement, Summary, by_round
from harness.tasks import Target, Task
from harness.verdicts import Verdict, ratio

HEAD = ("task", "ours", "best peer", "figure", "target", "met", "what")
ROWS = ("task", "threads", "contestant", "metric", "median", "least", "most", "rounds", "ours is")
WORDS = {True: "yes", False: "no", None: "-"}


def verdicts(found: Sequence[Verdict]) -> str:
    """One line a task."""
    return table(HEAD, [_line(each) for each in found])


def _line(verdict: Verdict) -> list[str]:
    task = verdict.task
    theirs = f"{number(verdict.theirs)} ({verdict.peer})" if verdict.theirs else "-"
    what = task.what + (f"; {verdict.note}" if verdict.note else "")
    met = WORDS[verdict.met]
    return [
        task.name, number(verdict.ours), theirs, _figure(verdict), wanted(task.target), met, what,
    ]  # fmt: skip


def _figure(verdict: Verdict) -> str:
    """What the target speaks of, with its spread over the rounds."""
    figure, target = verdict.figure, verdict.task.target
    if figure is None:
        return "-"
    unit = "x" if target is None or target.kind in ("times", "flat") else ""
    spread = f" ({short(figure.low)} to {short(figure.high)})" if figure.rounds > 1 else ""
    return f"{short(figure.median)}{unit}{spread}"


def wanted(target: Target | None) -> str:
    """A target in words."""
    if target is None:
        return "-"
    value = short(target.value)
    return {
        "times": f"{value}x or more",
        "plus": f"+{value} or less",
        "limit": f"{value} or less",
        "flat": f"{value}x or less",
    }[target.kind]


def contestants(tasks: Sequence[Task], found: Mapping[str, Sequence[Measurement]]) -> str:
    """One line a contestant; beside a peer, how many times as good the only one of ours is."""
    lines = []
    for task in tasks:
        ours = [each.name for each in task.contestants if each.side == "ours"]
        own = by_round(found[task.name], ours[0], task.metric) if len(ours) == 1 else {}
        for each in task.contestants:
            values = by_round(found[task.name], each.name, task.metric)
            summary = Summary.of(list(values.values()))
            if summary is None:
                continue
            numbers = [short(n) for n in (summary.median, summary.low, summary.high)]
            threads = next(m.threads for m in found[task.name] if m.contestant == each.name)
            about = [task.name, str(threads), each.name, task.metric.replace("_", " ")]
            times = ratio(task, own, values) if each.side == "peer" else None
            against = f"{short(times.median)}x" if times else ""
            lines.append([*about, *numbers, str(summary.rounds), against])
    return table(ROWS, lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def number(summary: Summary | None) -> str:
    """A median, short."""
    return short(summary.median) if summary else "-"


def short(value: float) -> str:
    """Three digits that say something, and thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) < 10_000 else f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def footnotes(machines: Mapping[str, Mapping[str, str]]) -> str:
    """Which tasks were measured on what, those of one machine and day together.

    The load is that of the minute before: on a quiet machine it is small.
    """
    groups: dict[str, list[str]] = {}
    for name, about in machines.items():
        text = ", ".join(f"{key} {value}" for key, value in about.items() if key != "load")
        groups.setdefault(text, []).append(f"{name} (load {about.get('load', '?')})")
    return "\n".join(f"- {', '.join(names)}: {text}" for text, names in groups.items())
