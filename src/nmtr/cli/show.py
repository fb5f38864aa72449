"""What the commands share: consoles, progress bars, JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nmtr import cli

if TYPE_CHECKING:
    from rich.text import Text

    from nmtr.training.step import Report, Step


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
def training_bar(minutes: float | None = None) -> Iterator[Report]:
    """A progress bar for training: phase, epoch, its steps, loss, and time left of the whole.

    minutes: that it will not exceed.
    """
    with progress() as shown:
        yield training_report(shown, minutes)


def training_report(shown: Progress, minutes: float | None = None) -> Report:
    """What shows a training as one of several bars."""
    from nmtr.cli.clock import Clock

    task = shown.add_task("train", total=None, left="")
    clock = Clock() if minutes is None else Clock(time.monotonic() + 60 * minutes)

    def report(step: Step) -> None:
        if step.step % 16 == 0 or step.step in (1, step.steps):
            title = f"{step.phase}, epoch {step.epoch} of {step.epochs}, loss {step.loss:.4f}"
            left = clock.in_words(step)
            shown.update(task, description=title, completed=step.step, total=step.steps, left=left)

    return report


class TimeLeft(TimeRemainingColumn):
    """The time left as a task says it; that of its bar where it says nothing."""

    def render(self, task: Task) -> Text:
        from rich.text import Text

        left = task.fields.get("left")
        return super().render(task) if left is None else Text(left, "progress.remaining")


def progress() -> Progress:
    """Bars on standard error, gone when they are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
    )
    # Where nobody watches, as in a timer's mail, a bar would come to an empty line.
    unseen = cli.quiet or not notes.is_terminal
    return Progress(*columns, console=notes, transient=True, disable=unseen)
