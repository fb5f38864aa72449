"""The data: what the audit found, and the funnel as a picture."""

from __future__ import annotations

import numpy as np

from nmtr.data.auditing.figures import Audit, percent
from nmtr.data.auditing.tables import Sheet, sheets
from nmtr.data.records import LabelledPairs, Records
from nmtr.pages.blocks import Drawing, Folded, Points, Section, Table, Text
from nmtr.pages.charts import Bar, bars
from nmtr.reports.subject import Subject

MOST = 8  # combinations of behaviours that are drawn


def audit_section(subject: Subject) -> Section:
    """The verdicts in words, and every figure behind them."""
    found = subject.audit
    used = subject.run.settings.protocol
    advice = f"The audit recommends the protocol **{found.protocol}**: {found.why}."
    advice += "" if used == found.protocol else f" This run was trained for **{used}**."
    tables = [_table(each) for each in sheets(found)]
    return Section(
        "data",
        "The data",
        [
            Text(
                f"{found.users:,} users, {found.items:,} items, "
                f"{sum(each.pairs for each in found.volumes):,} pairs. What the audit says:"
            ),
            Points(found.verdicts),
            Text(advice),
            Folded("Every figure of the audit", tables),
        ],
    )


def _table(sheet: Sheet) -> Table | Text:
    if sheet.skipped:
        return Text(f"{sheet.title}: skipped, {sheet.skipped}.")
    return Table(sheet.title, sheet.head, sheet.rows)


def funnel_section(subject: Subject) -> Section:
    """How many pairs each behaviour has, and which go together."""
    found = subject.audit
    if len(found.volumes) == 1:
        only = found.volumes[0]
        words = f"There is one behaviour, {only.name}, with {only.pairs:,} pairs: no funnel."
        return Section("funnel", "The funnel", [Text(words)])
    levels, sentences = _levels(found)
    kinds = _kinds(subject.run.data.records())
    return Section(
        "funnel",
        "The funnel",
        [
            Text(f"{' '.join(sentences)} A pair is one user with one item."),
            Drawing(
                [bars("Pairs of each behaviour", levels), bars("What a pair has", kinds)],
                "Left: pairs of each behaviour; the dark part is also recorded one level below. "
                "Right: every pair once, by the behaviours that it has; dark where the target is "
                "among them.",
            ),
        ],
    )  # fmt: skip


def _levels(found: Audit) -> tuple[list[Bar], list[str]]:
    levels, sentences = [], []
    for r, each in enumerate(found.volumes):
        if not r:
            levels.append(Bar(each.name, each.pairs, each.pairs, f"{each.pairs:,} pairs"))
            continue
        below = found.volumes[r - 1]
        share = found.nesting[each.name][below.name]
        common = share * each.pairs
        levels.append(
            Bar(
                each.name, each.pairs, common,
                f"{each.pairs:,} pairs, {percent(share)} of them also {below.name}",
            )
        )  # fmt: skip
        if below.pairs:
            sentences.append(
                f"{percent(common / below.pairs)} of the {below.name} pairs are {each.name} pairs "
                f"too; {percent(share)} of the {each.name} pairs have a {below.name}."
            )
    return levels, sentences


def _kinds(records: Records) -> list[Bar]:
    """The commonest combinations of behaviours."""
    bits, counts = np.unique(LabelledPairs.from_records(records).bits, return_counts=True)
    total, target = counts.sum(), len(records.behaviors) - 1
    order = np.argsort(-counts, kind="stable")
    found = []
    for at in order[:MOST]:
        has = [name for r, name in enumerate(records.behaviors) if int(bits[at]) >> r & 1]
        name = " + ".join(has) if len(has) > 1 else f"{has[0]} only"
        n = int(counts[at])
        bought = n if int(bits[at]) >> target & 1 else 0
        found.append(Bar("", n, bought, f"{name}: {n:,} ({percent(n / total)})"))
    return found
