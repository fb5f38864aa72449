"""Run the cells of a plan: finished ones are left alone, a budget of minutes ends it cleanly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nmtr.errors import UsageError
from nmtr.experiments.cells import Cell, open_cell, run_cell
from nmtr.experiments.plan import Asked
from nmtr.training.reads import log_read
from nmtr.training.step import Report, Step

Notify = Callable[[str], None]


class BudgetSpentError(Exception):
    """The minutes are over; the same command goes on."""


def run_cells(
    out: Path,
    cells: Sequence[Cell],
    asked: Asked,
    *,
    log: Path,
    words: Sequence[str],
    minutes: float | None = None,
    notify: Notify | None = None,
    report: Report | None = None,
) -> int:
    """Run what is not finished; returns how many cells are still to do.

    log, words: where each read of the test is written, and the command that reads. What a cell
    records is kept as it ends, so that a kill costs at most what its checkpoint lacks.
    """
    check_folder(out)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def watched(step: Step) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise BudgetSpentError
        if report:
            report(step)

    waiting = [each for each in cells if open_cell(out, each, asked.data) is None]
    for done, cell in enumerate(waiting):
        if deadline is not None and time.monotonic() >= deadline:
            return len(waiting) - done
        if notify:
            notify(f"[{done + 1}/{len(waiting)}] {cell.name}")
        why = f"reproduce: cell {cell.name}, under {' and '.join(cell.reads)}"
        try:
            run_cell(
                out, cell, asked.data,
                before_read=partial(log_read, log, words, why), report=watched,
            )  # fmt: skip
        except BudgetSpentError:
            return len(waiting) - done
    return 0


def check_folder(out: Path) -> None:
    """Raise UsageError unless `out` is free or holds what this command wrote."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with --out")
    if out.exists() and any(out.iterdir()) and not (out / "cells").is_dir():
        raise UsageError(f"{out} holds something else; name another folder with --out")
    (out / "cells").mkdir(parents=True, exist_ok=True)
