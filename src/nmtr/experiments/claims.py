"""Each claim of the paper's prose: holds, does not, or cannot be told, with numbers.

A claim that one thing is better than another holds where the paired permutation test says so at
.05 and the sign is right, does not where the sign is wrong at .05, else it cannot be told. One of
several parts holds where all do, and does not where one does not. A claim of a size holds where
what was measured is as large and its 95 % interval is above 0, does not where the interval ends
below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmtr.evaluation.comparison import shown
from nmtr.evaluation.significance import Difference, Vector, holm, seed_mean
from nmtr.experiments.documents import Document
from nmtr.experiments.figure2 import METRICS, falls, groups_of, per_user
from nmtr.experiments.outcomes import Outcomes, signed
from nmtr.experiments.paper import paper
from nmtr.experiments.plan import CASCADES, FIGURE2, PAPERS, SENSITIVE, STAGED, label_of
from nmtr.experiments.table2 import preface
from nmtr.experiments.table3 import Part, parts_of, vectors
from nmtr.pages.blocks import Table, Text

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told"
ALPHA = 0.05


@dataclass(frozen=True)
class Finding:
    """A claim under a protocol: the verdict, and the numbers behind it in words."""

    claim: str
    protocol: str
    verdict: str
    numbers: str


@dataclass(frozen=True)
class Context:
    outcomes: Outcomes
    protocol: str

    def vector(self, row: str, metric: str) -> Vector | None:
        return per_user(self.outcomes, row, self.protocol, metric)

    def alike(self, row: str, metric: str) -> Vector | None:
        """The same by the plan's settings, where the protocol has settings of its own too."""
        return per_user(self.outcomes.alike, row, self.protocol, metric)

    def part(self, row: str, part: Part, metric: str) -> Vector | None:
        runs = vectors(self.outcomes, row, part, self.protocol, metric)
        return seed_mean(runs) if runs else None

    def better(self, a: Vector | None, b: Vector | None, name: str) -> tuple[str, str]:
        """Verdict and numbers of the claim that a is better than b."""
        if a is None or b is None:
            return UNKNOWN, f"{name}: not trained"
        gap = self.outcomes.difference(a, b)
        return verdict_of(gap.permutation, gap.mean), f"{name} {told(gap)}"


Claim = Callable[[Context], Iterator[tuple[str, str, str]]]  # claim, verdict, numbers


def claims(outcomes: Outcomes, out: Path) -> Document:
    """The document; a claim whose cells are not finished cannot be told, and says so."""
    document = Document("claims", "The paper's claims, one by one")
    document.blocks += [
        Text(preface(outcomes)),
        Text(" ".join((__doc__ or "").split("\n\n")[1].split())),
    ]
    for protocol in (each for each in outcomes.protocols() if each != "leak-free"):
        found = list(findings(Context(outcomes, protocol)))
        rows = [[each.claim, f"**{each.verdict}**", each.numbers] for each in found]
        held, failed = (sum(e.verdict == each for e in found) for each in (HOLDS, FAILS))
        title = f"{protocol}: {held} of {len(found)} hold, {failed} do not"
        document.blocks.append(Table(title, ("claim", "verdict", "numbers"), rows, left=3))
        document.data += [vars(each) for each in found]
    return document


def findings(context: Context) -> Iterator[Finding]:
    """Every claim, in the order of the paper."""
    for claim in (_joint, _beats_all, _sizes, _units, _parts, _halves, _falls, _sparse, _new):
        for text, verdict, numbers in claim(context):
            yield Finding(text, context.protocol, verdict, numbers)


def verdict_of(p: float, mean: float) -> str:
    """Of a claim that a mean difference is above 0."""
    return UNKNOWN if p >= ALPHA or not mean else HOLDS if mean > 0 else FAILS


def told(gap: Difference) -> str:
    """A difference in words: absolute, relative with its interval, p."""
    relative = ""
    if np.isfinite(gap.relative_low):
        relative = f", {gap.relative:+.1%} ({gap.relative_low:+.1%} to {gap.relative_high:+.1%})"
    return f"{signed(gap.mean)}{relative}, p {shown(gap.permutation)}"


def together(found: list[tuple[str, str]]) -> tuple[str, str]:
    """Several parts of one claim: it holds where all do, and fails where one does."""
    verdicts = {verdict for verdict, _ in found}
    whole = FAILS if FAILS in verdicts else UNKNOWN if UNKNOWN in verdicts or not found else HOLDS
    return whole, "; ".join(numbers for _, numbers in found)


def _joint(context: Context) -> Iterator[tuple[str, str, str]]:
    text = "Joint training is better than training level by level (III.D)"
    staged = label_of(SENSITIVE, STAGED)
    found = [
        context.better(
            context.alike(SENSITIVE, m), context.alike(staged, m), f"{SENSITIVE}, {m.upper()}"
        )
        for m in METRICS
    ]
    yield text, *together(found)


def _beats_all(context: Context) -> Iterator[tuple[str, str, str]]:
    """Holm's correction is over all pairs of one metric."""
    others = [each for each in PAPERS if each not in CASCADES]
    for metric in METRICS:
        text = f"Each NMTR is better than all nine baselines, {metric.upper()}"
        pairs = [(ours, other) for ours in CASCADES for other in others]
        values = [(context.vector(a, metric), context.vector(b, metric)) for a, b in pairs]
        gaps = [
            (a, b, context.outcomes.difference(x, y))
            for (a, b), (x, y) in zip(pairs, values, strict=True)
            if x is not None and y is not None
        ]
        corrected = holm([gap.permutation for _, _, gap in gaps])
        verdicts = [verdict_of(p, gap.mean) for p, (_, _, gap) in zip(corrected, gaps, strict=True)]
        won = sum(each == HOLDS for each in verdicts)
        numbers = f"{won} of {len(pairs)} pairs won"
        if gaps:
            a, b, gap = min(gaps, key=lambda each: each[2].mean)
            numbers += f"; the least: {a} over {b} {told(gap)}"
        if len(gaps) < len(pairs):
            numbers += f"; {len(pairs) - len(gaps)} not trained"
        lost = FAILS in verdicts
        yield text, FAILS if lost else HOLDS if won == len(pairs) else UNKNOWN, numbers


def _sizes(context: Context) -> Iterator[tuple[str, str, str]]:
    known = paper()["claims"]
    for ours, other, metric, name in (
        ("nmtr-neumf", "neumf", "hr@100", "hr_over_neumf"),
        ("nmtr-mlp", "neumf", "ndcg@100", "ndcg_over_neumf"),
        ("nmtr-neumf", "mc-neumf", "hr@100", "hr_over_mc_neumf"),
    ):
        text = f"{ours} is {known[name]:.2%} above {other} in {metric.upper()}"
        a, b = context.vector(ours, metric), context.vector(other, metric)
        if a is None or b is None:
            yield text, UNKNOWN, "not trained"
            continue
        gap = context.outcomes.difference(a, b)
        yield (
            text,
            size_verdict(gap.relative, gap.relative_low, gap.relative_high, known[name]),
            told(gap),
        )


def size_verdict(value: float, low: float, high: float, claimed: float) -> str:
    """Of a claim that something is at least so large."""
    if not np.isfinite([value, low, high]).all():
        return UNKNOWN
    if high < claimed:
        return FAILS
    return HOLDS if value >= claimed and low > 0 else UNKNOWN


def _units(context: Context) -> Iterator[tuple[str, str, str]]:
    text = "NMTR-GMF and NMTR-NeuMF are better than NMTR-MLP"
    found = [
        context.better(
            context.vector(each, m), context.vector("nmtr-mlp", m), f"{each}, {m.upper()}"
        )
        for each in ("nmtr-gmf", "nmtr-neumf")
        for m in METRICS
    ]
    yield text, *together(found)


def _parts(context: Context) -> Iterator[tuple[str, str, str]]:
    behaviors = context.outcomes.asked.data.behaviors
    if len(behaviors) != 3:
        return
    parts = {each.papers: each for each in parts_of(behaviors)}
    lower, upper, target = behaviors
    text = f"{lower} helps more than {upper}, beside {target}"
    found = [
        context.better(
            context.part(row, parts["lower"], m),
            context.part(row, parts["upper"], m),
            f"{row}, {m.upper()}",
        )
        for row in CASCADES
        for m in METRICS
    ]
    yield text, *together(found)


def _halves(context: Context) -> Iterator[tuple[str, str, str]]:
    behaviors = context.outcomes.asked.data.behaviors
    if len(behaviors) != 3:
        return
    parts = {each.papers or each.title: each for each in parts_of(behaviors)}
    lower, upper, target = behaviors
    alone = parts[f"{target} alone"]
    for text, a, b in (
        (f"50 % of {upper} is worse than {target} alone", alone, parts["half of upper"]),
        (f"50 % of {lower} is better than {target} alone", parts["half of lower"], alone),
        (f"50 % of {upper} is worse than all of it", parts["upper"], parts["half of upper"]),
        (f"50 % of {lower} is worse than all of it", parts["lower"], parts["half of lower"]),
    ):
        found = [
            context.better(
                context.part(row, a, m),
                context.part(row, b, m),
                f"{row}, {m.upper()}, {a.title} minus ({b.title}):",
            )
            for row in CASCADES
            for m in METRICS
        ]
        yield text, *together(found)


def _falls(context: Context) -> Iterator[tuple[str, str, str]]:
    known = paper()["claims"]
    rows = ("nmtr-neumf", "mc-bpr", "mc-neumf")
    text = "From the fifth group to the first, NMTR-NeuMF's NDCG@100 falls least"
    values = {row: v for row in rows if (v := context.vector(row, "ndcg@100")) is not None}
    groups = groups_of(context.outcomes, context.protocol)
    if "nmtr-neumf" not in values or len(values) < 2 or len(groups) < 2:
        yield text, UNKNOWN, "not trained, or a single group"
        return
    found = falls(values, groups)
    verdicts, numbers = [], []
    for row, each in found.items():
        low, high = np.nanpercentile(each[1:], [2.5, 97.5])
        stated = known[f"fall_{row.replace('-', '_')}"]
        numbers.append(f"{row} {each[0]:.1%} ({low:.1%} to {high:.1%}; paper {stated:.1%})")
        if row != "nmtr-neumf":
            low, high = np.nanpercentile(each[1:] - found["nmtr-neumf"][1:], [2.5, 97.5])
            verdicts.append(HOLDS if low > 0 else FAILS if high < 0 else UNKNOWN)
    yield text, together([(each, "") for each in verdicts])[0], "; ".join(numbers)


def _sparse(context: Context) -> Iterator[tuple[str, str, str]]:
    known = paper()["claims"]
    groups = groups_of(context.outcomes, context.protocol)
    for metric, name in (("hr@100", "sparse_hr"), ("ndcg@100", "sparse_ndcg")):
        text = (
            f"In the sparsest group NMTR-NeuMF is {known[name]:.2%} above the best baseline, "
            f"{metric.upper()}"
        )
        values = {row: v for row in FIGURE2 if (v := context.vector(row, metric)) is not None}
        ours = values.pop("nmtr-neumf", None)
        if ours is None or not values:
            yield text, UNKNOWN, "not trained"
            continue
        rows = groups[0].rows
        best = max(values, key=lambda each: float(values[each][rows].mean()))
        gap = context.outcomes.difference(ours[rows], values[best][rows])
        last = groups[-1].rows
        dense = context.outcomes.difference(ours[last], values[best][last])
        verdict = size_verdict(gap.relative, gap.relative_low, gap.relative_high, known[name])
        yield text, verdict, f"over {best} {told(gap)}; in the densest group {told(dense)}"


def _new(context: Context) -> Iterator[tuple[str, str, str]]:
    """The central claim where memory of the funnel cannot answer."""
    parts = {each.title: each for each in parts_of(context.outcomes.asked.data.behaviors)}
    alone = next(iter(parts.values()))
    for metric in METRICS:
        text = f"All behaviours are better than {alone.title}, {metric.upper()}"
        found = [
            context.better(context.alike(row, metric), context.part(row, alone, metric), row)
            for row in CASCADES
        ]
        yield text, *together(found)
