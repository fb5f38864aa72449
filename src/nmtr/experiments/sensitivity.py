"""How much NMTR depends on lambda and on the kind of cascade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmtr.evaluation.comparison import shown
from nmtr.evaluation.significance import seed_mean
from nmtr.experiments.documents import Document
from nmtr.experiments.outcomes import Outcomes, cut, signed
from nmtr.experiments.plan import SENSITIVE, STAGED, label_of, sensitivities
from nmtr.experiments.table2 import preface
from nmtr.pages.blocks import Table, Text

METRICS = ("hr@100", "ndcg@100")
AS_GIVEN = "as given"


def sensitivity(outcomes: Outcomes, out: Path) -> Document:
    """Each variation beside the settings as given, paired over users."""
    document = Document("sensitivity", f"What {SENSITIVE} depends on")
    document.blocks.append(Text(preface(outcomes)))
    for protocol in outcomes.protocols():
        if protocol != "leak-free" and outcomes.value(SENSITIVE, protocol, METRICS[0]):
            document.data += _lines(outcomes, protocol)
            document.blocks.append(_table(document.data, protocol))
    return document


def _lines(outcomes: Outcomes, protocol: str) -> list[dict[str, Any]]:
    """A line per variation that is finished, and metric."""
    found: list[dict[str, Any]] = []
    for name in (AS_GIVEN, *sensitivities(outcomes.asked), STAGED):
        row = SENSITIVE if name == AS_GIVEN else label_of(SENSITIVE, name)
        for metric in METRICS:
            value = outcomes.alike.value(row, protocol, metric)
            if value is None:
                continue
            line: dict[str, Any] = {
                "variation": name, "protocol": protocol, "metric": metric,
                "ours": value.mean, "low": value.low, "high": value.high,
            }  # fmt: skip
            if name != AS_GIVEN:
                runs = (outcomes.alike.vectors(each, protocol, metric) for each in (row, SENSITIVE))
                gap = outcomes.difference(*(seed_mean(each) for each in runs))
                line |= {"difference": gap.mean, "from": gap.low, "to": gap.high}
                line |= {"p": gap.permutation}
            found.append(line)
    return found


def _table(lines: Sequence[Mapping[str, Any]], protocol: str) -> Table:
    rows: dict[str, list[str]] = {}
    for each in (line for line in lines if line["protocol"] == protocol):
        cells = rows.setdefault(each["variation"], [each["variation"]])
        cells.append(f"{cut(each['ours'])} ({cut(each['low'])}–{cut(each['high'])})")
        cells.append("")
        if "p" in each:
            gap = f"{signed(each['difference'])} ({signed(each['from'])} to {signed(each['to'])})"
            cells[-1] = f"{gap}, p {shown(each['p'])}"
    headings = ("variation", "HR@100", "minus as given", "NDCG@100", "minus as given")
    note = (
        f"Everything else as {SENSITIVE}'s settings say; nothing was searched again for a "
        "variation. staged: level by level, each for as many epochs as the joint training has at "
        "most. p of the paired permutation test, uncorrected."
    )
    return Table(f"{protocol}: variations", headings, list(rows.values()), note)
