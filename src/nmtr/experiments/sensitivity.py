"""How much NMTR depends on lambda and on the kind of cascade."""

from __future__ import annotations

from pathlib import Path

from nmtr.evaluation.significance import seed_mean
from nmtr.experiments.documents import Document, Table, Text
from nmtr.experiments.outcomes import Outcomes, cut, signed
from nmtr.experiments.plan import SENSITIVE, STAGED, label_of, sensitivities
from nmtr.experiments.table2 import preface

METRICS = ("hr@100", "ndcg@100")


def sensitivity(outcomes: Outcomes, out: Path) -> Document:
    """Each variation beside the settings as given, paired over users."""
    document = Document("sensitivity", f"What {SENSITIVE} depends on")
    document.blocks.append(Text(preface(outcomes)))
    for protocol in outcomes.protocols():
        if protocol == "leak-free":
            continue
        rows = []
        for name in (*sensitivities(outcomes.asked), STAGED):
            row, cells = label_of(SENSITIVE, name), []
            for metric in METRICS:
                value = outcomes.value(row, protocol, metric)
                base = outcomes.vectors(SENSITIVE, protocol, metric)
                if value is None:
                    continue
                cells.append(f"{cut(value.mean)} ({cut(value.low)}–{cut(value.high)})")
                line: dict[str, object] = {
                    "variation": name, "protocol": protocol, "metric": metric,
                    "ours": value.mean, "low": value.low, "high": value.high,
                }  # fmt: skip
                if base:
                    runs = outcomes.vectors(row, protocol, metric)
                    gap = outcomes.difference(seed_mean(runs), seed_mean(base))
                    cells.append(f"{signed(gap.mean)} ({signed(gap.low)} to {signed(gap.high)})")
                    line |= {"difference": gap.mean, "p": gap.permutation}
                else:
                    cells.append("")
                document.data.append(line)
            if cells:
                rows.append([name, *cells])
        headings = ("variation", "HR@100", "minus as given", "NDCG@100", "minus as given")
        note = (
            f"Everything else as {SENSITIVE}'s settings say, whose cascade and lambdas were not "
            "searched again for each variation. staged: level by level, each for as many epochs as "
            "the joint training has at most."
        )
        if rows:
            document.blocks.append(Table(f"{protocol}: variations", headings, rows, note))
    return document
