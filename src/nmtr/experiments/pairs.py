"""Paired tests of each NMTR against every other row, over the same users."""

from __future__ import annotations

from nmtr.evaluation.comparison import ALPHA, Pair, shown
from nmtr.evaluation.significance import holm, seed_mean
from nmtr.experiments.documents import Document
from nmtr.experiments.outcomes import Outcomes, signed
from nmtr.experiments.plan import CASCADES
from nmtr.experiments.table2 import bold, rows_of
from nmtr.pages.blocks import Table

METRICS = ("ndcg@100", "hr@100")


def pairs_of(outcomes: Outcomes, protocol: str, ours: str, metric: str) -> list[Pair]:
    """A row of ours against all others but ours, corrected by Holm over these."""
    others = [each for each in rows_of(outcomes, protocol) if each not in CASCADES]
    runs = outcomes.vectors(ours, protocol, metric)
    if not runs:
        return []
    own = seed_mean(runs)
    names, gaps = [], []
    for other in others:
        theirs = seed_mean(outcomes.vectors(other, protocol, metric))
        ahead = own.mean() >= theirs.mean()
        names.append((ours, other) if ahead else (other, ours))
        gaps.append(outcomes.difference(*((own, theirs) if ahead else (theirs, own))))
    corrected = holm([each.permutation for each in gaps])
    return [Pair(*each, gap, p) for each, gap, p in zip(names, gaps, corrected, strict=True)]


def document(outcomes: Outcomes) -> Document:
    """A table per protocol, metric and NMTR."""
    found = Document("tests", "Does NMTR differ from the others? Paired tests")
    for protocol in outcomes.protocols():
        for metric in METRICS:
            for ours in CASCADES:
                pairs = pairs_of(outcomes, protocol, ours, metric)
                if pairs:
                    found.blocks.append(_table(pairs, protocol, ours, metric))
                found.data += [
                    {
                        "protocol": protocol, "metric": metric, "first": each.first,
                        "second": each.second, "difference": each.gap.mean, "low": each.gap.low,
                        "high": each.gap.high, "relative": each.gap.relative, "t": each.gap.t,
                        "wilcoxon": each.gap.wilcoxon, "permutation": each.gap.permutation,
                        "holm": each.p, "sentence": each.sentence,
                    }
                    for each in pairs
                ]  # fmt: skip
    return found


def _table(pairs: list[Pair], protocol: str, ours: str, metric: str) -> Table:
    rows = []
    for each in pairs:
        gap, won = each.gap, each.first == ours
        sign = 1 if won else -1
        verdict = "cannot be told apart" if each.p >= ALPHA else ("better" if won else "worse")
        shares = (gap.better, gap.worse) if won else (gap.worse, gap.better)
        rows.append(
            [
                each.second if won else each.first,
                bold(verdict, verdict == "better"),
                signed(sign * gap.mean),
                f"{sign * gap.effect:+.3f}",
                f"{shares[0]:.1%}/{shares[1]:.1%}",
                *(shown(p) for p in (gap.t, gap.wilcoxon, gap.permutation, each.p)),
            ]
        )
    return Table(
        f"{protocol}: {ours} against the others, {metric.upper()}",
        (
            "against",
            f"{ours} is",
            "difference",
            "d",
            "better/worse",
            "t",
            "Wilcoxon",
            "permutation",
            "Holm",
        ),
        rows,
        note="Paired over users, seeds averaged first. Two-sided p; the permutation test decides, "
        "after Holm's correction over this table, at .05.",
        left=2,
    )
