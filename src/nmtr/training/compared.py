"""Finished runs that were ranked alike, and their per-user values for a comparison.

Runs whose settings differ in the seed alone are one model; the values of its seeds are averaged for
each user before models are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nmtr.data.split import PROTOCOLS
from nmtr.errors import UsageError
from nmtr.evaluation.comparison import Comparison, compare
from nmtr.evaluation.metrics import parse
from nmtr.evaluation.report import BASELINES, SLICES, Result
from nmtr.evaluation.vectors import load_vectors
from nmtr.options import unknown
from nmtr.training.folder import CONFIG, open_report
from nmtr.training.settings import Settings, read_settings

VALIDATION = "validation"


@dataclass(frozen=True)
class Compared:
    """What was compared, in words and figures.

    runs: the folders behind each model, one for each seed; note: what else the runs may be compared
    on, or why this is validation, where `ranked` was not asked for.
    """

    ranked: str
    in_words: str
    metric: str
    part: str
    runs: Mapping[str, tuple[str, ...]]
    note: str
    comparison: Comparison


@dataclass(frozen=True)
class _Member:
    """A run: its folder, its settings, what it was ranked on, and which data trained it."""

    path: Path
    settings: Settings
    ranked: frozenset[str]
    fingerprint: str


def compare_runs(
    paths: Sequence[Path],
    *,
    ranked: str | None = None,
    metric: str = "ndcg@100",
    part: str = "all",
    against: str | None = None,
) -> Compared:
    """Compare runs, popularity and replay beside them.

    ranked: a protocol whose test all runs were evaluated on, or `validation`; by default such a
    protocol, the runs' own first, else validation. against: a model, or one of the runs. Raises
    UsageError where runs do not compare: one given twice, other data, other held-out users, nothing
    ranked alike, or no such metric, slice or model.
    """
    metric = parse(metric)
    if part not in SLICES:
        raise unknown("slice", part, SLICES)
    if ranked not in (None, VALIDATION, *PROTOCOLS):
        raise unknown("ranking to compare on", str(ranked), (VALIDATION, *PROTOCOLS))
    members = [_open(each) for each in paths]
    _check_alike(members, "was trained on other data than", lambda each: each.fingerprint)
    note = ""
    if ranked is None:
        ranked, note = _common(members)
    if ranked == VALIDATION:
        what = "was validated under another protocol than"
        _check_alike(members, what, lambda each: each.settings.protocol)
    groups = _by_model(members)
    every = {each.path: _results(each, ranked) for each in members}
    entries = {name: [every[paths[0]][name]] for name in BASELINES if name in every[paths[0]]}
    for name, group in groups.items():
        entries[name] = [every[each.path][each.settings.model] for each in group]
    _check_users(members, [every[each.path][each.settings.model] for each in members], part)
    names = {each.path.resolve(): name for name, group in groups.items() for each in group}
    if against and against not in entries:
        if Path(against).resolve() not in names:
            raise unknown("model to compare with", against, entries)
        against = names[Path(against).resolve()]
    values = {name: [each.values[part][metric] for each in runs] for name, runs in entries.items()}
    words = str((open_report(paths[0], ranked) or {}).get("in_words", ""))
    runs = {name: tuple(str(each.path) for each in group) for name, group in groups.items()}
    return Compared(ranked, words, metric, part, runs, note, compare(values, against=against))


def _open(path: Path) -> _Member:
    if not (path / CONFIG).exists():
        raise UsageError(f"{path} is no run (it has no {CONFIG})")
    settings, about = read_settings(path / CONFIG)
    ranked = {file.stem.removeprefix("vectors-") for file in path.glob("vectors-*.npz")}
    return _Member(path, settings, frozenset(ranked), str(about.get("fingerprint")))


def _check_alike(members: Sequence[_Member], what: str, of: Callable[[_Member], str]) -> None:
    """Raise UsageError unless every run has what the first has; `what` says how it differs."""
    first = members[0]
    for each in members[1:]:
        if of(each) != of(first):
            raise UsageError(f"{each.path} {what} {first.path} ({of(each)}, not {of(first)})")


def _check_users(members: Sequence[_Member], results: Sequence[Result], part: str) -> None:
    """Raise UsageError unless all runs ranked for the same users, and for any."""
    users = [each.users.get(part, np.zeros(0, np.int64)) for each in results]
    for member, each in zip(members[1:], users[1:], strict=True):
        if not np.array_equal(each, users[0]):
            raise UsageError(
                f"{member.path} and {members[0].path} were ranked for other users "
                f"({len(each):,} and {len(users[0]):,}); evaluate them alike, and train with the "
                "same validation_users"
            )
    if not len(users[0]):
        raise UsageError(f"no held-out item is in slice {part}")


def _common(members: Sequence[_Member]) -> tuple[str, str]:
    """What all runs were ranked on, and what to say of that choice.

    The test under a protocol comes before validation, and the protocol that trained them first.
    """
    common = frozenset.intersection(*(each.ranked for each in members))
    if not common:
        raise UsageError(
            "the runs have no ranking in common; give each `nmtr evaluate RUN --test --why REASON` "
            "under the same protocol"
        )
    own = {each.settings.protocol for each in members}
    chosen, *others = sorted(common, key=lambda each: (each == VALIDATION, each not in own, each))
    if chosen != VALIDATION:
        also = f"They may be compared on {', '.join(others)} too: --on." if others else ""
        return chosen, also
    return chosen, (
        "This is validation: no protocol's test was read in all of them "
        "(nmtr evaluate RUN --test --why REASON)."
    )


def _results(member: _Member, ranked: str) -> Mapping[str, Result]:
    """The results that a run keeps, its model's among them."""
    path, model = member.path, member.settings.model
    if ranked not in member.ranked:
        advice = (
            "train it again, with a metric to select by"
            if ranked == VALIDATION
            else f"`nmtr evaluate {path} --test --protocol {ranked} --why REASON`"
        )
        raise UsageError(f"{path} has no vectors-{ranked}.npz; {advice}")
    found = load_vectors(path / f"vectors-{ranked}.npz")
    if model not in found:
        raise UsageError(
            f"{path} keeps values of {', '.join(found)}, not of {model}; evaluate the run again"
        )
    return found


def _by_model(members: Sequence[_Member]) -> dict[str, list[_Member]]:
    """Seeds of one model together, by its name; with a folder where settings differ otherwise too.

    Raises UsageError where two runs have one seed, which would count the same evidence twice.
    """
    groups: list[tuple[Settings, list[_Member]]] = []
    for member in members:
        training = replace(member.settings.training, seed=0)
        alike = replace(member.settings, training=training)
        group = next((each for known, each in groups if known == alike), None)
        if group is None:
            groups.append((alike, group := []))
        for each in group:
            if each.settings.training.seed == member.settings.training.seed:
                raise UsageError(
                    f"{each.path} and {member.path} are one run twice, with the same settings and "
                    "seed; give one of them"
                )
        group.append(member)
    models = [settings.model for settings, _ in groups]
    return {
        settings.model
        if models.count(settings.model) == 1
        else f"{settings.model} ({group[0].path})": group
        for settings, group in groups
    }
