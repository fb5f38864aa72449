"""Table III: NMTR on parts of the data: one auxiliary behaviour, half of one, none, all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nmtr.evaluation.significance import Vector
from nmtr.experiments import paper
from nmtr.experiments.cells import Cell
from nmtr.experiments.documents import Document
from nmtr.experiments.outcomes import Outcomes, cut, value_of
from nmtr.experiments.plan import NMTR, ROWS
from nmtr.experiments.table2 import cell_text, preface
from nmtr.pages.blocks import Table, Text
from nmtr.training.settings import Settings

METRICS = ("hr@100", "ndcg@100")


@dataclass(frozen=True)
class Part:
    """A column: which behaviours, the share of the auxiliary, and what Table III calls it."""

    title: str
    behaviors: tuple[str, ...]
    share: float = 1.0
    papers: str = ""


def parts_of(behaviors: tuple[str, ...]) -> list[Part]:
    """The columns for a data set's behaviours, the paper's among them where it has three."""
    target = behaviors[-1]
    found = [Part(f"{target} alone", (target,))]
    for at, auxiliary in enumerate(reversed(behaviors[:-1])):
        level = ("upper", "lower")[at] if len(behaviors) == 3 else ""
        both = (auxiliary, target)
        found.append(Part(f"{target} + {auxiliary}", both, papers=level))
        half = f"half of {level}" if level else ""
        found.append(Part(f"{target} + 50 % of {auxiliary}", both, 0.5, half))
    return [*found, Part("all", ())]


def vectors(outcomes: Outcomes, row: str, part: Part, protocol: str, metric: str) -> list[Vector]:
    """(U,) for each seed, and each draw of a sub-sample."""
    draws = range(outcomes.asked.draws) if part.share < 1 else range(1)
    found: list[Vector] = []
    for draw in draws:
        name = Cell(row, Settings(), "", part.behaviors, part.share, draw).part
        found += outcomes.alike.vectors(row, protocol, metric, part=name)
    return found


def table3(outcomes: Outcomes, out: Path) -> Document:
    """The document; the test's users, masks and slices are those of the whole log throughout."""
    document = Document("table3", "Table III: what auxiliary behaviours bring")
    document.blocks.append(Text(preface(outcomes)))
    document.blocks.append(
        Text(
            "Every part is ranked for the same users, on the same held-out items, with the same "
            "items masked: those of the whole log. Half of a behaviour is half of its pairs, drawn "
            f"by a hash of the ids, {outcomes.asked.draws} times; values are means over the draws."
        )
    )
    for protocol in outcomes.protocols():
        if protocol != "leak-free":
            document.blocks.append(_table(outcomes, protocol))
            document.data += _data(outcomes, protocol)
    return document


def _reference(
    outcomes: Outcomes, row: str, part: Part, protocol: str, metric: str
) -> float | None:
    data = outcomes.asked.data
    if protocol != "as-published" or not paper.is_papers(data.n_users, data.n_items):
        return None
    if part.behaviors:
        return paper.table3(row, part.papers, metric)
    return paper.table2(row, metric)


def _table(outcomes: Outcomes, protocol: str) -> Table:
    parts = parts_of(outcomes.asked.data.behaviors)
    rows = []
    for row in (each.name for each in ROWS if each.group == NMTR):
        for metric in METRICS:
            values = {
                part.title: value_of(runs)
                for part in parts
                if (runs := vectors(outcomes, row, part, protocol, metric))
            }
            if not values:
                continue
            top = max(cut(each.mean) for each in values.values())
            cells = []
            for part in parts:
                value = values.get(part.title)
                known = _reference(outcomes, row, part, protocol, metric)
                text = cell_text(value, known, best=value is not None and cut(value.mean) == top)
                if value and part.share < 1 and len(value.seeds) > 1:
                    text += f"\ndraws {cut(min(value.seeds))}–{cut(max(value.seeds))}"
                cells.append(text)
            rows.append([row, metric.upper(), *cells])
    titles = [each.title for each in parts]
    known = any("paper" in cell for row in rows for cell in row)
    below = "; below, the paper's and ours minus it" if known else ""
    note = f"Mean (95 % interval over users){below}; the best is bold."
    return Table(f"{protocol}: parts of the data", ("model", "metric", *titles), rows, note, left=2)


def _data(outcomes: Outcomes, protocol: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for row in (each.name for each in ROWS if each.group == NMTR):
        for part in parts_of(outcomes.asked.data.behaviors):
            for metric in METRICS:
                runs = vectors(outcomes, row, part, protocol, metric)
                if not runs:
                    continue
                value = value_of(runs)
                found.append(
                    {
                        "model": row,
                        "protocol": protocol,
                        "part": part.title,
                        "metric": metric,
                        "ours": value.mean,
                        "low": value.low,
                        "high": value.high,
                        "runs": len(value.seeds),
                        "paper": _reference(outcomes, row, part, protocol, metric),
                    }
                )
    return found
