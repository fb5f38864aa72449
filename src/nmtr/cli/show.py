"""What the commands share: consoles, progress bars, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nmtr import cli


class Output(Console):
    """A console that leaves a closed pipe to run(), where Rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = Output(highlight=False)
notes = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no markup, and not broken where a path or a command would not copy."""
    console.print(text, markup=False, soft_wrap=True)


def remark(text: str) -> None:
    """Print a line that is no result, such as what comes next; not with --quiet or --json."""
    if not cli.quiet:
        say(text)


def emit_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document to standard output."""
    print(json.dumps(value, indent=2, default=str))


def words(text: str | None) -> tuple[str, ...]:
    """A comma-separated option."""
    return tuple(each.strip() for each in (text or "").split(",") if each.strip())


def mapping(text: str | None) -> dict[str, str]:
    """A comma-separated option of NAME=VALUE."""
    from nmtr.options import parse_assignments

    return parse_assignments(words(text))


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with time left; call what it gives with (done, of)."""
    with progress() as shown:
        task = shown.add_task(title, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


@contextmanager
def training_bar() -> Iterator[Callable[[str, int, int, int, float], None]]:
    """A progress bar for training: the phase, the epoch, its steps, the loss."""
    with progress() as shown:
        yield training_report(shown)


def training_report(shown: Progress) -> Callable[[str, int, int, int, float], None]:
    """What shows a training as one of several bars."""
    task = shown.add_task("train", total=None)

    def report(phase: str, epoch: int, step: int, steps: int, loss: float) -> None:
        if step % 16 == 0 or step == steps:
            title = f"{phase}, epoch {epoch}, loss {loss:.4f}"
            shown.update(task, description=title, completed=step, total=steps)

    return report


def progress() -> Progress:
    """Bars on standard error, gone when they are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=notes, transient=True, disable=cli.quiet)
