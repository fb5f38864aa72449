"""The command that compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nmtr.cli.show import console, emit_json, say

if TYPE_CHECKING:
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
        a protocol whose test all were evaluated on, or validation; by default the first that all
        have, test before validation.
    metric
        hr, ndcg, recall or mrr at 10, 20, 50, 80, 100 or 200.
    slice
        all, in-funnel or new.
    against
        compare with this model alone: a name from the table.
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
    say(f"{metric}, slice {slice}, {fold}, {found.comparison.users:,} users. {found.in_words}.")
    _show(found.comparison)


def _show(found: Comparison) -> None:
    from rich.table import Table

    from nmtr.evaluation.comparison import shown

    best = found.models[0].name
    models = Table(padding=(0, 1))
    for heading in ("model", "mean", "95 % interval", "seeds", "over seeds"):
        models.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for each in found.models:
        spread = f"{min(each.seeds):.4f} to {max(each.seeds):.4f}" if len(each.seeds) > 1 else ""
        interval = f"{each.low:.4f} to {each.high:.4f}"
        row = (each.name, f"{each.mean:.4f}", interval, str(len(each.seeds)), spread)
        models.add_row(*row, style="bold" if each.name == best else "")
    console.print(models)
    pairs = Table(padding=(0, 1))
    headings = ("pair", "difference", "d", "better/worse", "t", "Wilcoxon", "permutation", "Holm")
    for heading in headings:
        pairs.add_column(heading, justify="left" if heading == "pair" else "right")
    for pair in found.pairs:
        gap = pair.gap
        users = f"{gap.better:.1%}/{gap.worse:.1%}"
        tests = (shown(each) for each in (gap.t, gap.wilcoxon, gap.permutation, pair.p))
        name = f"{pair.first} - {pair.second}"
        pairs.add_row(name, f"{gap.mean:+.4f}", f"{gap.effect:.3f}", users, *tests)
    console.print(pairs)
    for pair in found.pairs:
        say(pair.sentence)
