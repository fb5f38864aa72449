"""Coverage, popularity bias and diversity of what is recommended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmtr.data.auditing.figures import percent
from nmtr.data.records import CSR
from nmtr.evaluation import lists
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
        f"catalogue; {percent(model.head)} of them are among the most popular tenth of the items "
        f"(what these users did as {target}: {percent(figures[own].head)}), and "
        f"{percent(model.met)} are items that the user had already met."
    )
    kinds = [f"{at + 1}" for at in range(lists.TENTHS)]
    drawn = columns(
        "Recommendations by popularity of the item", kinds,
        {name: [100 * x for x in each.exposure] for name, each in figures.items()},
        xlabel="tenth of the items, most popular first", ylabel="% of recommendations",
    )  # fmt: skip
    caption = (
        f"Which tenth of the items the recommendations come from, by {target} records in training; "
        f"beside them, what the same users really did as {target}."
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
    mean = lambda values: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")  # noqa: E731
    return Figures(
        lists.coverage(rows),
        lists.gini(rows),
        mean(lists.popularity(rows, counts, train.n_users)),
        mean(lists.head_share(rows, counts)),
        mean(lists.novelty(rows, counts, train.n_users)),
        float(met.mean()) if len(met) else float("nan"),
        mean(lists.diversity(rows, among)),
        lists.personalization(rows),
        tuple(lists.exposure(rows, counts).tolist()),
    )


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
        f"last row is what the users did as {target}, lists of any length."
    )
    return Table("", headings, rows, note)
