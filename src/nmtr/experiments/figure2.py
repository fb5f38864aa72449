"""Figure 2: how models fare with users of few and of many target records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nmtr.data.split import split
from nmtr.evaluation.groups import Group, by_activity
from nmtr.evaluation.report import interval
from nmtr.evaluation.significance import Vector, seed_mean
from nmtr.experiments import paper, plots
from nmtr.experiments.documents import Document
from nmtr.experiments.outcomes import Outcomes, Value, cut
from nmtr.experiments.plan import FIGURE2
from nmtr.experiments.table2 import bold, preface
from nmtr.pages.blocks import Table, Text

FIRST = (5, 8)
METRICS = ("hr@100", "ndcg@100")


def groups_of(outcomes: Outcomes, protocol: str) -> list[Group]:
    """The users of a protocol's test by their training target records; rows: their places.

    The first group is the paper's on its data; the others hold about equally many users each.
    """
    data = outcomes.asked.data
    parts = split(data, protocol)
    counts = parts.train.target.lengths()[parts.evaluation.users]
    first = FIRST if paper.is_papers(data.n_users, data.n_items) else None
    return by_activity(counts, first=first)


def per_user(outcomes: Outcomes, row: str, protocol: str, metric: str) -> Vector | None:
    """(U,) a row's values, seeds averaged; None where it is not finished."""
    runs = outcomes.vectors(row, protocol, metric)
    return seed_mean(runs) if runs else None


def figure2(outcomes: Outcomes, out: Path) -> Document:
    """The document and a plot per protocol."""
    document = Document("figure2", "Figure 2: users with few purchases and with many")
    document.blocks.append(Text(preface(outcomes)))
    for protocol in outcomes.protocols():
        rows = [each for each in FIGURE2 if outcomes.value(each, protocol, METRICS[0])]
        if not rows or protocol == "leak-free":
            continue
        groups = groups_of(outcomes, protocol)
        panels: dict[str, dict[str, list[Value]]] = {
            metric.upper(): {row: _values(outcomes, row, protocol, metric, groups) for row in rows}
            for metric in METRICS
        }
        labels = [f"{each.name}\n({len(each.rows):,})" for each in groups]
        document.blocks.append(
            plots.groups(
                out, f"figure2-{protocol}", labels, panels,
                xlabel="target records in training (users)",
                caption=f"{protocol}: five groups of users by their training target records, with "
                "95 % intervals.",
            )
        )  # fmt: skip
        document.blocks += [
            _table(metric, panels[metric.upper()], groups, protocol) for metric in METRICS
        ]
        for metric in METRICS:
            for row, values in panels[metric.upper()].items():
                for group, value in zip(groups, values, strict=True):
                    document.data.append(
                        {
                            "model": row,
                            "protocol": protocol,
                            "metric": metric,
                            "from": group.low,
                            "to": group.high,
                            "users": len(group.rows),
                            "ours": value.mean,
                            "low": value.low,
                            "high": value.high,
                        }
                    )
    return document


def _values(
    outcomes: Outcomes, row: str, protocol: str, metric: str, groups: list[Group]
) -> list[Value]:
    values = per_user(outcomes, row, protocol, metric)
    assert values is not None
    found = [interval(values[each.rows]) for each in groups]
    return [Value(each["mean"], each["low"], each["high"], ()) for each in found]


def _table(metric: str, rows: dict[str, list[Value]], groups: list[Group], protocol: str) -> Table:
    tops = [max(cut(each[at].mean) for each in rows.values()) for at in range(len(groups))]
    lines = []
    for row, values in rows.items():
        cells = [
            f"{bold(cut(value.mean), cut(value.mean) == top)} ({cut(value.low)}–{cut(value.high)})"
            for value, top in zip(values, tops, strict=True)
        ]
        fall = 1 - values[0].mean / values[-1].mean if values[-1].mean else float("nan")
        lines.append([row, *cells, f"{fall:.1%}"])
    headings = ("model", *(each.name for each in groups), "fall, last to first")
    return Table(f"{protocol}: {metric.upper()} by training target records", headings, lines)


def falls(
    values: dict[str, Vector], groups: list[Group], *, resamples: int = 1000, seed: int = 0
) -> dict[str, npt.NDArray[np.float64]]:
    """{row: (1 + resamples,)} the fall 1 - first / last, as measured, then by bootstrap.

    Users are resampled in each group alike for all rows, so that falls pair.
    """
    rng = np.random.default_rng(seed)
    means: dict[str, list[npt.NDArray[np.float64]]] = {row: [] for row in values}
    for group in (groups[0], groups[-1]):
        picks = rng.integers(0, len(group.rows), (resamples, len(group.rows)))
        for row, each in values.items():
            own = each[group.rows]
            drawn = np.array([own[pick].mean() for pick in picks])
            means[row].append(np.concatenate([[own.mean()], drawn]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {row: 1 - first / last for row, (first, last) in means.items()}
