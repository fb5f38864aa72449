"""Table II: every model at every K, the paper's number beside ours, both protocols side by side."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from nmtr.data.split import WORDS
from nmtr.experiments import paper, plots
from nmtr.experiments.documents import Block, Document
from nmtr.experiments.outcomes import Outcomes, Value, cut, signed
from nmtr.experiments.plan import CASCADES, ROWS
from nmtr.pages.blocks import Table, Text

KS = (10, *paper.CUTOFFS)
SLICED = {"all": "all", "in-funnel": "in-funnel", "new": "new", "sealed": "sealed half"}
SORTED_BY = "ndcg@100"


def table2(outcomes: Outcomes, out: Path) -> Document:
    """The document, and its plots under out/plots; rows that are not finished are left out."""
    document = Document("table2", "Table II: who ranks best")
    document.blocks.append(Text(preface(outcomes)))
    for protocol in outcomes.protocols():
        if not rows_of(outcomes, protocol):
            continue
        document.blocks.append(_overview(outcomes, protocol))
        document.blocks += _plot(outcomes, protocol, out)
    document.blocks += [_at(outcomes, k) for k in paper.CUTOFFS if outcomes.protocols()]
    document.blocks += [_slices(outcomes, each) for each in outcomes.protocols()]
    document.blocks.append(_sources(outcomes))
    document.data += _data(outcomes)
    return document


def preface(outcomes: Outcomes) -> str:
    """What was run, in words; and what is still missing."""
    asked = outcomes.asked
    data = asked.data
    parts = [
        f"{data.n_users:,} users, {data.n_items:,} items, behaviours {' → '.join(data.behaviors)}; "
        f"trained for {asked.protocol}, {asked.seeds} seed(s) of each model that has chance in it, "
        "values averaged for each user. Intervals are 95 % bootstraps over users; ranking is "
        "exact, over all items, ties against the model."
    ]
    if asked.quick:
        parts.append("**A smoke test (--quick): trained for a moment, its numbers mean nothing.**")
    if outcomes.waiting:
        parts.append(f"**{outcomes.waiting} cell(s) are not finished yet: rows are missing.**")
    return " ".join(parts)


def rows_of(outcomes: Outcomes, protocol: str, metric: str = SORTED_BY) -> list[str]:
    """The rows that have a value under a protocol, best first."""
    found = {each.name: outcomes.value(each.name, protocol, metric) for each in ROWS}
    known = {name: value.mean for name, value in found.items() if value}
    return sorted(known, key=lambda each: -known[each])


def group_of(row: str) -> str:
    return next(each.group for each in ROWS if each.name == row)


def reference(outcomes: Outcomes, row: str, protocol: str, metric: str) -> float | None:
    """The paper's number, where the data and the protocol are the paper's."""
    data = outcomes.asked.data
    if protocol != "as-published" or not paper.is_papers(data.n_users, data.n_items):
        return None
    return paper.table2(row, metric)


def best_of(values: dict[str, Value]) -> set[str]:
    """The rows with the highest value, as printed."""
    top = max((cut(each.mean) for each in values.values()), default="", key=float)
    return {name for name, each in values.items() if cut(each.mean) == top}


def bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes else text


def values_of(outcomes: Outcomes, protocol: str, metric: str) -> dict[str, Value]:
    found = {each.name: outcomes.value(each.name, protocol, metric) for each in ROWS}
    return {name: value for name, value in found.items() if value}


def _overview(outcomes: Outcomes, protocol: str) -> Table:
    rows = []
    hr = {k: values_of(outcomes, protocol, f"hr@{k}") for k in KS}
    ndcg = {k: values_of(outcomes, protocol, f"ndcg@{k}") for k in KS}
    for row in rows_of(outcomes, protocol):
        cells = [
            f"{bold(cut(hr[k][row].mean), row in best_of(hr[k]))}/"
            f"{bold(cut(ndcg[k][row].mean), row in best_of(ndcg[k]))}"
            for k in KS
        ]
        rows.append([row, group_of(row), *cells])
    first = outcomes.vectors(rows_of(outcomes, protocol)[0], protocol, SORTED_BY)[0]
    users = len(first)
    return Table(
        f"{protocol}: HR/NDCG",
        ("model", "learns from", *(f"@{k}" for k in KS)),
        rows,
        note=f"{protocol}: {WORDS.get(protocol, '')}; {users:,} users. Sorted by NDCG@100; the "
        "best of each column is bold.",
        left=2,
    )


def _plot(outcomes: Outcomes, protocol: str, out: Path) -> list[Block]:
    values = values_of(outcomes, protocol, SORTED_BY)
    known = {row: reference(outcomes, row, protocol, SORTED_BY) for row in values}
    plot = plots.ranking(
        out,
        f"table2-{protocol}",
        values,
        {row: value for row, value in known.items() if value is not None},
        label="NDCG@100",
        caption=f"NDCG@100 of every model under {protocol}, with 95 % intervals over users.",
        ours=CASCADES,
    )
    return [plot]


def cell_text(value: Value | None, known: float | None, *, best: bool) -> str:
    """Ours, its interval, the paper's number and the difference, in one cell."""
    if value is None:
        return ""
    text = f"{bold(cut(value.mean), best)} ({cut(value.low)}–{cut(value.high)})"
    if known is not None:
        text += f"\npaper {cut(known)}, {signed(value.mean - known)}"
    return text


def _at(outcomes: Outcomes, k: int) -> Table:
    protocols = outcomes.protocols()
    headings = ["model"]
    columns = []
    for protocol in protocols:
        for metric in (f"hr@{k}", f"ndcg@{k}"):
            headings.append(f"{protocol}\n{metric.upper()}")
            columns.append((protocol, metric, values_of(outcomes, protocol, metric)))
    order = rows_of(outcomes, protocols[0], f"ndcg@{k}")
    rows = [
        [
            row,
            *(
                cell_text(
                    values.get(row),
                    reference(outcomes, row, protocol, metric),
                    best=row in best_of(values),
                )
                for protocol, metric, values in columns
            ),
        ]
        for row in order
    ]
    known = any(reference(outcomes, *each[:2], f"ndcg@{k}") for each in product(order, protocols))
    below = "; below, the paper's and ours minus it" if known else ""
    note = f"Mean (95 % interval){below}. Sorted by {protocols[0]} NDCG@{k}."
    if k == 80 and any(reference(outcomes, "mlp", each, "ndcg@80") for each in protocols):
        note += " The paper's NDCG@80 of MLP is a misprint: it is below its NDCG@50."
    return Table(f"K = {k}", headings, rows, note=note)


def _slices(outcomes: Outcomes, protocol: str) -> Table:
    order = rows_of(outcomes, protocol)
    headings, columns = ["model"], []
    for slice_, title in SLICED.items():
        values = {
            row: {
                m: outcomes.value(row, protocol, m, slice_=slice_) for m in ("hr@100", "ndcg@100")
            }
            for row in order
        }
        if any(each["hr@100"] for each in values.values()):
            headings.append(title)
            columns.append(values)
    rows = []
    for row in order:
        cells = []
        for values in columns:
            pair = [values[row][m] for m in ("hr@100", "ndcg@100")]
            tops = [
                best_of({r: v for r, each in values.items() if (v := each[m])})
                for m in ("hr@100", "ndcg@100")
            ]
            shown = [bold(cut(v.mean), row in top) for v, top in zip(pair, tops, strict=True) if v]
            cells.append("/".join(shown))
        rows.append([row, *cells])
    note = (
        "in-funnel: the held-out item has an auxiliary record of its user; new: it has none. "
        "Sealed half: the users whose blake2b ends in a 1 bit."
    )
    return Table(f"{protocol}: HR@100/NDCG@100 by slice", headings, rows, note=note)


def _sources(outcomes: Outcomes) -> Table:
    rows = []
    for row in outcomes.asked.rows:
        for cell in outcomes.of(row.name)[:1]:
            about = outcomes.about(cell)
            drawn = " ".join(map(str, cell.settings.training.negatives)) if about["epochs"] else ""
            epochs, parameters = str(about["epochs"]), f"{about['parameters']:,}"
            rows.append([row.name, about["source"], drawn, epochs, parameters])
    return Table(
        "Where the settings come from",
        ("model", "settings", "negatives", "epochs", "parameters"),
        rows,
        note="All settings in each cell's config.toml. Presets were chosen on validation of the "
        "data that they are named after. Negatives: of a positive; where there are several, "
        "of each behaviour's.",
        left=2,
    )


def _data(outcomes: Outcomes) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for protocol in outcomes.protocols():
        for row in rows_of(outcomes, protocol):
            for slice_ in SLICED:
                for metric in (f"{kind}@{k}" for k in KS for kind in ("hr", "ndcg")):
                    value = outcomes.value(row, protocol, metric, slice_=slice_)
                    if value is None:
                        continue
                    known = reference(outcomes, row, protocol, metric) if slice_ == "all" else None
                    found.append(
                        {
                            "model": row,
                            "group": group_of(row),
                            "protocol": protocol,
                            "slice": slice_,
                            "metric": metric,
                            "ours": value.mean,
                            "low": value.low,
                            "high": value.high,
                            "seeds": len(value.seeds),
                            "paper": known,
                            "difference": None if known is None else value.mean - known,
                        }
                    )
    return found
