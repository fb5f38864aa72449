"""Table I: how much data there is, beside the paper's counts."""

from __future__ import annotations

from nmtr.data.audit import audit
from nmtr.data.interactions import Interactions
from nmtr.experiments.documents import Document
from nmtr.experiments.paper import is_papers, paper
from nmtr.pages.blocks import Table, Text


def table1(data: Interactions) -> Document:
    """Users, items and pairs per behaviour of the log; nothing is trained."""
    found = audit(data)
    known = paper()["table1"] if is_papers(data.n_users, data.n_items) else {}
    counts = {"users": found.users, "items": found.items}
    counts |= {each.name: each.pairs for each in found.volumes}
    rows, lines = [], []
    for name, ours in counts.items():
        theirs = known.get(name)
        difference = "" if theirs is None else f"{ours - theirs:+,}"
        rows.append([name, "" if theirs is None else f"{theirs:,}", f"{ours:,}", difference])
        lines.append({"count": name, "paper": theirs, "ours": ours})
    document = Document("table1", "Table I: the data")
    document.blocks.append(
        Table(
            "Counts",
            ("", "the paper", "this log", "difference"),
            rows,
            note="Distinct (user, item) pairs per behaviour, training and held-out ones together "
            "where the log holds both.",
        )
    )
    if not known:
        document.blocks.append(
            Text(
                "By their users and items these are not the paper's data: its numbers are left out."
            )
        )
    why = f"{found.why[:1].upper()}{found.why[1:]}."
    document.blocks += [Text(each) for each in (why, *(str(v) for v in found.verdicts))]
    document.data += lines
    return document
