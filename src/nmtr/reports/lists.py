"""Coverage, popularity bias and diversity of what is recommended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmtr.data.auditing.figures import percent
from nmtr.data.records import CSR
from nmtr.evaluation import lists
from nmtr.evaluation.report import FloatArray
from nmtr.pages.blocks import Drawing, Section, Table, Text
from nmtr.pages.charts import columns
from nmtr.reports.recommended import K, Recommended
from nmtr.reports.subject import Subject

NEIGHBOURS = 20_000  # users of whom items are likened to each other


@dataclass(frozen=True)
class Figures:
    """What some lists are like; shares and means over users."""

    coverage: float
    gini: float
    popularity: float
    head: float
    novelty: float
    met: float
    diversity: float
    personalization: float
    exposure: tuple[float, ...]


def lists_section(subject: Subject, found: Recommended) -> tuple[Section, str]:
    """The section, and its sentence for the top of the page."""
    target = subject.run.data.behaviors[-1]
    figures = {
        name: _figures(subject, found, each.lists(subject.train.n_items))
        for name, each in found.tops.items()
    }
    own = f"{target} in training"
    figures[own] = _figures(subject, found, found.histories.items[-1])
    model = figures[subject.model]
    words = (
        f"The first {K} items of {len(found.users):,} users hold {percent(model.coverage)} of the "
        f"catalogue; {percent(model.head)} of a list are among the most popular tenth of the items "
        f"(of these users' own {target} records {percent(figures[own].head)}), and "
        f"{percent(model.met)} of the recommendations are items that the user had already met."
    )
    kinds = [f"{at + 1}" for at in range(lists.TENTHS)]
    drawn = columns(
        "Recommendations by popularity of the item", kinds,
        {name: [100 * x for x in each.exposure] for name, each in figures.items()},
        xlabel="tenth of the items, most popular first", ylabel="% of recommendations",
    )  # fmt: skip
    caption = (
        f"Which tenth of the items the recommendations come from, by {target} records in training; "
        f"beside them, the same users' {target} records in training."
    )
    section = Section(
        "lists",
        "Coverage, popularity and diversity",
        [Text(words), Drawing([drawn], caption, key=list(figures)), _table(figures, own, target)],
    )
    return section, words


def _figures(subject: Subject, found: Recommended, rows: CSR) -> Figures:
    train = subject.train
    counts, seen = train.target.column_counts(), train.seen()
    met = seen.take(found.users).contains(rows.row_of_each(), rows.indices)
    step = max(1, -(-seen.n_rows // NEIGHBOURS))
    among = seen.take(np.arange(0, seen.n_rows, step)) if step > 1 else seen
    return Figures(
        lists.coverage(rows),
        lists.gini(rows),
        _mean(lists.popularity(rows, counts, train.n_users)),
        _mean(lists.head_share(rows, counts)),
        _mean(lists.novelty(rows, counts, train.n_users)),
        float(met.mean()) if len(met) else float("nan"),
        _mean(lists.diversity(rows, among)),
        lists.personalization(rows),
        tuple(lists.exposure(rows, counts).tolist()),
    )


def _mean(values: FloatArray) -> float:
    """Of the lists that have a value."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _table(figures: dict[str, Figures], own: str, target: str) -> Table:
    rows = [
        (
            name,
            percent(each.coverage),
            f"{each.gini:.3f}",
            percent(each.popularity, 2),
            percent(each.head),
            f"{each.novelty:.2f}",
            "–" if name == own else percent(each.met),
            f"{each.diversity:.3f}",
            f"{each.personalization:.3f}",
        )
        for name, each in figures.items()
    ]
    headings = (
        "lists of", "coverage", "Gini", "popularity", "popular tenth", "novelty, bits",
        "already met", "diversity", "personalisation",
    )  # fmt: skip
    note = (
        "Coverage: share of the items that stand in some list (of a sample of users: all users' "
        "lists hold more). Gini: 0 where all items are recommended alike, near 1 where few are. "
        f"Popularity: share of users with a {target} of the item. Novelty: -log2 of that share. "
        "Diversity: 1 - the mean cosine of two items of a list, items being the sets of users who "
        "met them. Personalisation: share of a list that another user's list does not hold. The "
        f"last row is of the users' own {target} records, lists of any length."
    )
    return Table("", headings, rows, note)
