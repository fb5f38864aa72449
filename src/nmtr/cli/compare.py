"""The command that compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nmtr.cli.show import console, emit_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from nmtr.evaluation.comparison import Comparison


def compare(
    *runs: Path,
    on: str | None = None,
    metric: str = "ndcg@100",
    slice: str = "all",
    against: str | None = None,
    json: bool = False,
) -> None:
    """Say which runs are better and how surely, by paired tests over the same users.

    Runs whose settings differ in the seed alone are one model, averaged for each user. The
    permutation test decides, after Holm's correction over all pairs; t and Wilcoxon stand beside.

    Parameters
    ----------
    runs
        finished runs of one data set, each evaluated alike.
    on
        a protocol whose test all were evaluated on, or validation; by default a protocol that all
        have, their own first, and else validation.
    metric
        hr, ndcg, recall or mrr at 10, 20, 50, 80, 100 or 200.
    slice
        all, in-funnel or new.
    against
        compare with this model alone: a name from the table, or one of the runs.
    json
        print as JSON.
    """
    from dataclasses import asdict

    from nmtr.errors import UsageError
    from nmtr.training.compared import compare_runs

    if not runs:
        raise UsageError("name at least one finished run: nmtr compare RUN RUN ...")
    found = compare_runs(runs, ranked=on, metric=metric, part=slice, against=against)
    if json:
        emit_json(asdict(found) | {"comparison": found.comparison.to_json()})
        return
    fold = "validation" if found.ranked == "validation" else "test"
    users = f"{found.comparison.users:,} users"
    say(f"{found.metric}, slice {slice}, {fold}, {users}. {found.in_words}.")
    if found.note:
        say(found.note)
    for name, folders in found.runs.items():
        if len(folders) > 1:
            say(f"{name}: {len(folders)} seeds, averaged for each user: {', '.join(folders)}")
    _show(found.comparison)


def _show(found: Comparison) -> None:
    """The models; how large each difference is, and how sure; and the same in words."""
    from nmtr.evaluation.comparison import shown

    several = any(len(each.seeds) > 1 for each in found.models)
    over = ("seeds", "sd", "least", "most") if several else ()
    models = _table("model", "mean", "95 % interval", *over)
    for each in found.models:
        row = [f"{each.mean:.4f}", f"{each.low:.4f} to {each.high:.4f}"]
        if len(each.seeds) > 1:
            spread = (each.seed_sd, min(each.seeds), max(each.seeds))
            row += [str(len(each.seeds)), *(f"{value:.4f}" for value in spread)]
        models.add_row(each.name, *row, style="bold" if each is found.models[0] else "")
    console.print(models)
    sizes = _table("difference", "mean", "95 % interval", "d", "better", "worse")
    tests = _table("p", "t", "Wilcoxon", "permutation", "Holm")
    for pair in found.pairs:
        name, gap = f"{pair.first} - {pair.second}", pair.gap
        interval = f"{gap.low:+.4f} to {gap.high:+.4f}"
        users = (f"{gap.better:.1%}", f"{gap.worse:.1%}")
        sizes.add_row(name, f"{gap.mean:+.4f}", interval, f"{gap.effect:.3f}", *users)
        tests.add_row(name, *map(shown, (gap.t, gap.wilcoxon, gap.permutation, pair.p)))
    console.print(sizes)
    console.print(tests)
    for pair in found.pairs:
        say(pair.sentence)


def _table(first: str, *others: str) -> Table:
    """A table whose first column breaks where it must, so that no figure is cut."""
    from rich.table import Table

    table = Table(padding=(0, 1) if console.width >= 100 else 0)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
