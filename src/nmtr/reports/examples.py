"""A few users: what they did, and what is recommended to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from nmtr.pages.blocks import Block, Section, Table, Text, literal
from nmtr.reports.recommended import K, Recommended
from nmtr.reports.subject import Subject

EXAMPLES = 4
ITEMS = 6  # of a behaviour, by name


def examples_section(subject: Subject, found: Recommended) -> Section:
    """Users from the least to the most active, chosen by place and not by how well they fare."""
    run, names = subject.run, subject.names
    what = "probabilities" if run.calibration else "scores (not probabilities)"
    blocks: list[Block] = [
        Text(
            f"{len(_chosen(found))} users of the sample, from few records to many, with the first "
            f"{K} items of {names[0]} and its {what}. They are chosen by their number of records, "
            "not by how well the model does."
        )
    ]
    for at in _chosen(found):
        user = run.data.users.take(found.users[[at]])[0]
        rows = _rows(subject, found, at)
        shown = ("P({})" if run.calibration else "score, {}").format
        headings = ["", names[0], *map(shown, run.data.behaviors), "met as", *names[1:]]
        blocks.append(
            Table(f"User {literal(str(user))}", headings, rows, _history(subject, found, at), 2)
        )
    return Section("users", "Example users", blocks)


def _chosen(found: Recommended) -> list[int]:
    """Rows of the sample, evenly over the number of records."""
    records = np.sum([each.lengths() for each in found.histories.items], 0)
    order = np.argsort(records, kind="stable")
    places = (np.arange(EXAMPLES) + 0.5) * len(order) / EXAMPLES
    chosen: list[int] = order[np.unique(places.astype(np.int64))].tolist()
    return chosen


def _rows(subject: Subject, found: Recommended, at: int) -> list[list[str]]:
    levels = _levels(subject, found, at)
    own = found.tops[subject.model].items[at]
    rows = []
    for k, item in enumerate(own):
        others = [_name(subject, int(found.tops[x].items[at, k])) for x in subject.names[1:]]
        if item < 0 and not any(others):
            break
        values = [f"{each:#.3g}" if item >= 0 else "" for each in levels[:, k]]
        met = [
            name
            for name, each in zip(subject.run.data.behaviors, found.histories.items, strict=True)
            if item in each.row(at)
        ]
        rows.append([str(k + 1), _name(subject, int(item)), *values, ", ".join(met), *others])
    return rows


def _levels(subject: Subject, found: Recommended, at: int) -> npt.NDArray[np.float32]:
    """(R, K) probabilities of the model's items, or its scores."""
    levels = found.tops[subject.model].levels[[at]]
    if subject.run.calibration:
        history = found.histories.slice(at, at + 1)
        given = subject.run.calibration.probabilities(torch.from_numpy(levels), history)
        levels = np.asarray(given.numpy(), np.float32)
    first: npt.NDArray[np.float32] = levels[0]
    return first


def _history(subject: Subject, found: Recommended, at: int) -> str:
    told = []
    for name, each in zip(subject.run.data.behaviors, found.histories.items, strict=True):
        items = each.row(at)
        listed = ", ".join(_name(subject, int(item)) for item in items[:ITEMS])
        more = f" and {len(items) - ITEMS:,} more" if len(items) > ITEMS else ""
        told.append(f"{name} {len(items):,}{f' ({listed}{more})' if len(items) else ''}")
    return f"In training: {'; '.join(told)}."


def _name(subject: Subject, item: int) -> str:
    return literal(str(subject.run.data.items.take(np.array([item]))[0])) if item >= 0 else ""
