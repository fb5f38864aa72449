"""From measurements to a verdict: ours, the best peer's, and whether the target is met.

Ratios are taken within a round, where both met the same machine, and their median counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.measurements import Measurement, Summary, by_round, reason
from harness.tasks import Target, Task


@dataclass(frozen=True)
class Verdict:
    """What came of a task; None where nothing did. `figure` is what the target speaks of."""

    task: Task
    ours: Summary | None
    peer: str
    theirs: Summary | None
    figure: Summary | None
    met: bool | None
    note: str


def judge(task: Task, found: Sequence[Measurement]) -> Verdict:
    """The verdict on a task's measurements."""
    sides: dict[str, dict[str, dict[int, float]]] = {"ours": {}, "peer": {}}
    for each in task.contestants:
        if values := by_round(found, each.name, task.metric):
            sides[each.side][each.name] = values
    sign = 1 if task.better == "more" else -1
    ours = min(sides["ours"].values(), key=lambda values: sign * _median(values), default={})
    peer = max(sides["peer"], key=lambda name: sign * _median(sides["peer"][name]), default="")
    if task.target and task.target.kind == "flat":
        peer = ""  # peers on other logs are for the plot
    theirs = sides["peer"].get(peer, {})
    figure = _figure(task, sides["ours"], ours, theirs)
    return Verdict(
        task,
        Summary.of(list(ours.values())),
        peer,
        Summary.of(list(theirs.values())),
        figure,
        _met(task, figure, found),
        "; ".join(_notes(task, found)),
    )


def _median(values: Mapping[int, float]) -> float:
    found = Summary.of(list(values.values()))
    assert found is not None
    return found.median


def _figure(
    task: Task,
    all_ours: Mapping[str, Mapping[int, float]],
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
) -> Summary | None:
    kind = task.target.kind if task.target else "times"
    if kind == "flat":
        return Summary.of(_flatness(list(all_ours.values()))) if len(all_ours) > 1 else None
    if kind == "limit":
        return Summary.of(list(ours.values()))
    if kind == "plus":
        return Summary.of([ours[n] - theirs[n] for n in sorted(set(ours) & set(theirs))])
    return ratio(task, ours, theirs)


def ratio(task: Task, ours: Mapping[int, float], theirs: Mapping[int, float]) -> Summary | None:
    """How many times as good ours is, round by round."""
    both = sorted(set(ours) & set(theirs))
    up = task.better == "more"
    return Summary.of([ours[n] / theirs[n] if up else theirs[n] / ours[n] for n in both])


def _flatness(logs: Sequence[Mapping[int, float]]) -> list[float]:
    """By round: the most over the least among the logs."""
    rounds = set.intersection(*(set(each) for each in logs))
    return [max(e[n] for e in logs) / min(e[n] for e in logs) for n in sorted(rounds)]


def _met(task: Task, figure: Summary | None, found: Sequence[Measurement]) -> bool | None:
    if task.target is None or figure is None:
        return None
    return _reached(task.target, figure.median) and _good_enough(task, found)


def _reached(target: Target, value: float) -> bool:
    return value >= target.value if target.kind == "times" else value <= target.value


def _quality(task: Task, found: Sequence[Measurement], side: str) -> Summary | None:
    names = [each.name for each in task.contestants if each.side == side]
    return Summary.of([v for name in names for v in by_round(found, name, task.quality).values()])


def _good_enough(task: Task, found: Sequence[Measurement]) -> bool:
    if not task.quality:
        return True
    ours, wanted = (_quality(task, found, side) for side in ("ours", "peer"))
    return ours is not None and wanted is not None and ours.median >= wanted.median


def _notes(task: Task, found: Sequence[Measurement]) -> list[str]:
    notes = []
    if task.quality:
        values = [_quality(task, found, side) for side in ("ours", "peer")]
        ours, wanted = (f"{each.median:.4f}" if each else "-" for each in values)
        notes.append(f"{task.quality} {ours}, wanted {wanted}")
    reasons = {each.name: reason(found, each.name) for each in task.contestants}
    return notes + [f"{name}: {why}" for name, why in reasons.items() if why]
