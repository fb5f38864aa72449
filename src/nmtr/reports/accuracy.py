"""How well held-out items were ranked: by slice, and by how active users are."""

from __future__ import annotations

from collections.abc import Sequence

from nmtr.evaluation.comparison import compare
from nmtr.evaluation.groups import by_activity
from nmtr.evaluation.metrics import CUTOFFS
from nmtr.evaluation.report import SLICES, interval
from nmtr.pages.blocks import Block, Drawing, Folded, Section, Table, Text
from nmtr.pages.charts import Reach, intervals
from nmtr.reports.subject import Ranked, Subject

METRICS = ("ndcg@100", "hr@100")
NONE = (
    "This run kept no ranking: it chose nothing by validation, and its test was not read. "
    '`nmtr evaluate RUN --test --why "REASON"` reads the test.'
)
PARTS = (
    "In-funnel items are those that the user had already met under an auxiliary behaviour, new "
    "ones are not; a user with several held-out items may count in both."
)


def accuracy_section(subject: Subject) -> Section:
    """Metrics by slice, for each ranking that there is."""
    blocks: list[Block] = []
    for ranked in subject.ranked:
        blocks += _by_slice(subject, ranked)
    return Section("accuracy", "Metrics by slice", blocks or [Text(NONE)])


def activity_section(subject: Subject) -> Section:
    """The same by groups of users."""
    blocks: list[Block] = []
    for ranked in subject.ranked:
        blocks += _by_activity(subject, ranked)
    return Section("activity", "Metrics by activity", blocks or [Text(NONE)])


def verdict(subject: Subject, ranked: Ranked) -> str:
    """Who beats whom over all users of a ranking, in a sentence."""
    metric = METRICS[0]
    values = {
        name: [each.values["all"][metric]]
        for name, each in ranked.results.items()
        if metric in each.values["all"]
    }
    if subject.model not in values or len(values) < 2:
        return f"On {ranked.title}, there is nothing to compare with."
    found = compare(values, against=subject.model)
    means = {each.name: each.mean for each in found.models}
    told = ", ".join(f"{name} {means[name]:.4f}" for name in subject.names if name in means)
    pairs = "; ".join(each.sentence for each in found.pairs)
    return f"On **{ranked.title}** ({found.users:,} users), NDCG@100: {told}. {pairs}."


def _by_slice(subject: Subject, ranked: Ranked) -> list[Block]:
    results = {name: ranked.results[name] for name in subject.names if name in ranked.results}
    parts = [each for each in SLICES if any(len(x.users.get(each, ())) for x in results.values())]
    summaries = {name: each.summary() for name, each in results.items()}
    users = {
        part: max(len(each.users.get(part, ())) for each in results.values()) for part in parts
    }
    kinds = [f"{part}\n{users[part]:,} users" for part in parts]
    drawn = [
        intervals(
            metric.upper(),
            kinds,
            {
                name: [_reach(found[part][metric]) if part in found else None for part in parts]
                for name, found in summaries.items()
            },
        )
        for metric in METRICS
    ]
    rows = [
        [f"{part} ({users[part]:,})", name, *_cells(found[part]), _half(found[part]["hr@100"])]
        for part in parts
        for name, found in summaries.items()
        if part in found
    ]
    headings = ["slice (users)", "model", *(f"@{k}" for k in CUTOFFS), "± HR@100"]
    table = Table(f"{ranked.title}: HR / NDCG at K", headings, rows, ranked.in_words + ".", left=2)
    caption = f"{ranked.title}: means over users with 95 % bootstrap intervals. {PARTS}"
    return [
        Text(verdict(subject, ranked)),
        Drawing(drawn, caption, key=list(results)),
        Folded(f"Every K, {ranked.title}", [table]),
    ]


def _by_activity(subject: Subject, ranked: Ranked) -> list[Block]:
    target = subject.run.data.behaviors[-1]
    results = {name: ranked.results[name] for name in subject.names if name in ranked.results}
    first = next(iter(results.values()))
    counts = ranked.counts[first.users["all"]]
    groups = by_activity(counts)
    kinds = [f"{each.name}\n({len(each.rows):,})" for each in groups]
    found = {
        metric: {
            name: [_reach(interval(each.values["all"][metric][x.rows])) for x in groups]
            for name, each in results.items()
        }
        for metric in METRICS
    }
    rows = [
        [metric, name, *(f"{x.mean:.4f} ({x.low:.4f}–{x.high:.4f})" for x in row)]
        for metric, by_name in found.items()
        for name, by_group in by_name.items()
        for row in [by_group]
    ]
    xlabel = f"{target} records in training (users)"
    drawn = [intervals(each.upper(), kinds, found[each], xlabel=xlabel) for each in METRICS]
    headings = ["metric", "model", *(f"{x.name} ({len(x.rows):,})" for x in groups)]
    table = Table(f"{ranked.title}, by {xlabel}", headings, rows, left=2)
    caption = (
        f"{ranked.title}: users in groups of about equal size by their {target} records in "
        "training; means with 95 % bootstrap intervals."
    )
    return [
        Text(_trend(subject.model, [each.name for each in groups], found, target)),
        Drawing(drawn, caption, key=list(results)),
        Folded(f"The numbers, {ranked.title}", [table]),
    ]


def _trend(
    model: str, groups: Sequence[str], found: dict[str, dict[str, list[Reach]]], target: str
) -> str:
    """Whom the model serves better, in words."""
    row = found[METRICS[0]].get(model)
    if not row:
        return f"Nothing is known of {model} here."
    low, high = row[0], row[-1]
    if len(row) == 1:
        return f"All users have {groups[0]} {target} records in training: one group."
    told = (
        f"NDCG@100 of {model} is {low.mean:.4f} for users with {groups[0]} {target} records in "
        f"training and {high.mean:.4f} for those with {groups[-1]}"
    )
    apart = low.high < high.low or high.high < low.low
    return f"{told}{'' if apart else '; the intervals overlap, so that may be chance'}."


def _reach(found: dict[str, float]) -> Reach:
    return Reach(found["mean"], found["low"], found["high"])


def _cells(found: dict[str, dict[str, float]]) -> list[str]:
    return [
        f"{_short(found[f'hr@{k}']['mean'])} / {_short(found[f'ndcg@{k}']['mean'])}"
        for k in CUTOFFS
    ]


def _half(found: dict[str, float]) -> str:
    return _short((found["high"] - found["low"]) / 2)


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
