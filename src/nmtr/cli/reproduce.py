"""The command that runs the paper's experiments, and what they should have been compared with."""

from __future__ import annotations

from pathlib import Path

from nmtr.cli.show import emit_json, remark, training_bar, words


def reproduce(
    target: str,
    /,
    *,
    data: Path,
    out: Path,
    only: str | None = None,
    seeds: int = 1,
    draws: int = 3,
    budget: float | None = None,
    threads: int = 1,
    presets: str | None = None,
    leak_free: bool = False,
    quick: bool = False,
    reads: Path | None = None,
    json: bool = False,
) -> None:
    """Train what the target needs, read the test, and write tables, plots and a page.

    A cell (one training) that is finished is never run again: the same command goes on where it was
    killed, or where its budget ended. Each read of the test is one line in a log.

    Parameters
    ----------
    target
        table1, table2, table3, figure2, sensitivity, claims, or all.
    data
        a prepared data set.
    out
        folder of the cells and of what is written: TARGET.md, .csv, .html and plots, index.html.
    only
        models to run, comma-separated; by default all.
    seeds
        of each model that has chance in it.
    draws
        of each sub-sample of Table III.
    budget
        minutes after which it stops, also in the middle of a training.
    threads
        of each training, one at a time.
    presets
        the data set whose presets give the settings; by default beibei where the data are the
        paper's, else the models' defaults.
    leak_free
        train Table II's models for leak-free too, a diagnostic.
    quick
        a smoke test: trained for a moment; the numbers mean nothing.
    reads
        the log of test reads; by default experiments/TEST_READS.md, else OUT/TEST_READS.md.
    json
        print as JSON.
    """
    from nmtr import cli
    from nmtr.data.interactions import load
    from nmtr.errors import UsageError
    from nmtr.experiments.paper import is_papers
    from nmtr.experiments.plan import Asked
    from nmtr.experiments.plots import check_available
    from nmtr.experiments.reproduce import cells_of, documents, targets_of
    from nmtr.experiments.runner import run_cells
    from nmtr.training.reads import default_log

    targets = targets_of(target)
    if budget is not None and not budget > 0:
        raise UsageError(f"--budget: expected minutes above 0, got {budget}")
    check_available()
    opened = load(data)
    if presets is None:
        presets = "beibei" if is_papers(opened.n_users, opened.n_items) else ""
    asked = Asked(opened, presets, words(only), seeds, draws, quick, leak_free, threads)
    cells = cells_of(asked, targets)
    with training_bar(budget) as report:
        waiting = run_cells(
            out, cells, asked, log=reads or default_log(out), words=cli.given, minutes=budget,
            notify=remark, report=report,
        )  # fmt: skip
    made = documents(out, asked, targets)
    remark(f"{len(cells) - waiting} of {len(cells)} cells are finished in {out / 'cells'}.")
    if waiting:
        remark("The budget is spent; the same command goes on.")
    page = "index.html" if target == "all" else f"{made[0].name}.html"
    remark(f"Wrote {', '.join(f'{each.name}.md' for each in made)}; to read: {out / page}")
    if json:
        files = [f"{each.name}.md" for each in made]
        emit_json({"out": str(out), "cells": len(cells), "waiting": waiting, "written": files})
