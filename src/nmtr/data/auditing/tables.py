"""An audit as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmtr.data.auditing.figures import (
    Audit,
    HeldOutFigures,
    IdOrder,
    Marginal,
    Shift,
    Skipped,
    Times,
    percent,
)

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Sheet:
    """A table of cells as text; skipped: why there is none."""

    title: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    skipped: str = ""


def render(audit: Audit) -> RenderableType:
    """For a terminal: every figure, then the verdict and the protocol it recommends."""
    from rich.console import Group
    from rich.text import Text

    said = [Text(f"- {each}") for each in audit.verdicts]
    return Group(
        *map(_rendered, sheets(audit)),
        Text("Verdict", style="bold"),
        *said,
        Text(f"Recommended protocol: {audit.protocol}", style="bold"),
        Text(f"{audit.why}."),
    )


def sheets(audit: Audit) -> Iterator[Sheet]:
    """Every figure."""
    yield _volumes(audit)
    if audit.nesting:
        yield _nesting(audit)
    held = audit.held_out
    yield _held_out(held, audit) if isinstance(held, HeldOutFigures) else _skipped("Held out", held)
    if not isinstance(held, Skipped):
        yield from _leaks(audit)
    groups = [(_span(each.low, each.high), f"{each.users:,}") for each in audit.groups]
    yield Sheet("Sparsity groups", (f"training {audit.volumes[-1].name} records", "users"), groups)
    times = audit.times
    yield _times(times) if isinstance(times, Times) else _skipped("Times", times)


def _volumes(audit: Audit) -> Sheet:
    head = ("behaviour", "pairs", "density", "events", "repeated", "undo events")
    rows = [
        (
            each.name,
            f"{each.pairs:,}",
            percent(each.density, 3),
            f"{each.events:,}",
            percent(each.repeated),
            f"{each.undo_events:,}",
        )
        for each in audit.volumes
    ]
    return Sheet(f"{audit.users:,} users, {audit.items:,} items", head, rows)


def _nesting(audit: Audit) -> Sheet:
    names = [each.name for each in audit.volumes]
    rows = [
        (name, *(percent(lower[each]) if each in lower else "" for each in names[:-1]))
        for name, lower in audit.nesting.items()
    ]
    head = ("pairs of", *(f"also in {each}" for each in names[:-1]))
    return Sheet("Nesting", head, rows)


def _held_out(held: HeldOutFigures, audit: Audit) -> Sheet:
    slices = [(name, f"{n:,}", percent(n / held.pairs), "") for name, n in held.slices.items()]
    inside = [
        (f"recorded under {name}", "", percent(share), percent(held.trained_in[name]))
        for name, share in held.held_out_in.items()
    ]
    rest = [
        ("item without training record", "", percent(held.cold_items), ""),
        ("user without training record", "", percent(held.cold_users), ""),
    ]
    title = f"Held out by {held.rule}: {held.pairs:,} pairs of {held.users:,} users"
    head = ("", "pairs", "share", f"of training {audit.volumes[-1].name} pairs")
    return Sheet(title, head, [*slices, *inside, *rest])


def _leaks(audit: Audit) -> Iterator[Sheet]:
    ids, totals, moved = audit.id_order, audit.marginal, audit.shift
    if isinstance(ids, IdOrder):
        rows = [
            (
                name,
                f"{n:,}",
                percent(ids.above[name]),
                percent(ids.below[name]),
                percent(ids.chance[name]),
            )
            for name, n in ids.users.items()
        ]
        head = ("slice", "users", "above", "below", "by chance")
        yield Sheet("Held-out id against training ids", head, rows)
    else:
        yield _skipped("Id order", ids)
    if isinstance(totals, Marginal):
        hits = [
            (name, f"{hit:.3f}", f"{totals.by_popularity[name]:.3f}", f"{totals.error[name]:.3f}")
            for name, hit in totals.by_totals.items()
        ]
        target = audit.volumes[-1].name
        columns = ("slice", f"{totals.below} - {target}", "popularity", "error of difference")
        held = audit.held_out
        single = isinstance(held, HeldOutFigures) and held.pairs == held.users
        name = "HR" if single else "Recall"
        title = f"{name}@{totals.cutoff} by item totals, held-out pairs removed"
        yield Sheet(title, columns, hits)
    else:
        yield _skipped("Marginal leakage", totals)
    yield _shift(moved) if isinstance(moved, Shift) else _skipped("Popularity shift", moved)


def _shift(shift: Shift) -> Sheet:
    rows = [
        ("held-out pairs on them", percent(shift.held_out), percent(shift.drawn)),
        (
            "training pairs on the same",
            percent(shift.train_same),
            percent(shift.drawn_train_same),
        ),
        (f"training pairs on its own {shift.top}", percent(shift.train_top), ""),
    ]
    head = ("", "test", "drawn from training")
    return Sheet(f"Popularity shift, on the {shift.top} items held out most", head, rows)


def _times(times: Times) -> Sheet:
    rows = [
        ("first", times.first),
        ("last", times.last),
        ("before 1990", f"{times.before_1990:,}"),
        ("in the future", f"{times.future:,}"),
        ("distinct instants", f"{times.instants:,}"),
        (f"at the commonest, {times.busiest_at}", percent(times.busiest, 2)),
        ("at midnight", percent(times.midnight)),
        ("tied with another of the user", percent(times.tied)),
    ]
    if times.before_training is not None:
        rows.append(("held-out pairs before a training target", percent(times.before_training)))
    return Sheet("Times (UTC)", ("events", ""), rows)


def _skipped(title: str, reason: Skipped) -> Sheet:
    return Sheet(title, skipped=reason.skipped)


def _rendered(sheet: Sheet) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if sheet.skipped:
        return Text(f"{sheet.title}: skipped, {sheet.skipped}\n")
    table = Table(title=Text(sheet.title), title_justify="left")
    for column, name in enumerate(sheet.head):
        table.add_column(Text(name), justify="right" if column else "left")
    for row in sheet.rows:
        table.add_row(*map(Text, row))
    return table


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"
