"""Finished runs that were ranked alike, and their per-user values for a comparison.

Runs whose settings differ in the seed alone are one model; the values of its seeds are averaged for
each user before models are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nmtr.errors import UsageError
from nmtr.evaluation.comparison import Comparison, compare
from nmtr.evaluation.report import BASELINES, SLICES, Result
from nmtr.evaluation.vectors import load_vectors
from nmtr.training.folder import CONFIG, open_report
from nmtr.training.settings import Settings, read_settings

VALIDATION = "validation"


@dataclass(frozen=True)
class Compared:
    """What was compared, in words and figures."""

    ranked: str
    in_words: str
    metric: str
    part: str
    comparison: Comparison


def compare_runs(
    paths: Sequence[Path],
    *,
    ranked: str | None = None,
    metric: str = "ndcg@100",
    part: str = "all",
    against: str | None = None,
) -> Compared:
    """Compare runs, popularity and replay beside them.

    ranked: a protocol whose test all runs were evaluated on, or `validation`; by default the first
    protocol that all have, else validation. Raises UsageError where runs do not compare: other
    data, other held-out users, nothing ranked alike, or no such metric, slice or model.
    """
    _same_data(paths)
    ranked = ranked or _common(paths)
    found = [_results(each, ranked) for each in paths]
    report = open_report(paths[0], ranked) or {}
    if ranked == VALIDATION:
        _same_protocol(paths)
    if part not in SLICES:
        raise UsageError(f"unknown slice '{part}'; one of {', '.join(SLICES)}")
    named = _named(paths, [each[0] for each in found])
    memory = {name: [found[0][1][name]] for name in BASELINES if name in found[0][1]}
    entries = {**memory, **named}
    if against and against not in entries:
        raise UsageError(f"no model '{against}' to compare with; one of {', '.join(entries)}")
    users = next(iter(entries.values()))[0].users.get(part, np.zeros(0, np.int64))
    if not len(users):
        raise UsageError(f"no held-out item is in slice {part}")
    values = {}
    for name, runs in entries.items():
        for each in runs:
            if metric not in each.values[part]:
                known = ", ".join(each.values[part])
                raise UsageError(f"no metric '{metric}'; one of {known}")
            if not np.array_equal(each.users.get(part, users[:0]), users):
                raise UsageError(f"{name} ranked other users than the rest; evaluate them alike")
        values[name] = [each.values[part][metric] for each in runs]
    words = str(report.get("in_words", ""))
    return Compared(ranked, words, metric, part, compare(values, against=against))


def _same_data(paths: Sequence[Path]) -> None:
    prints = {}
    for path in paths:
        if not (path / CONFIG).exists():
            raise UsageError(f"{path} is no run (it has no {CONFIG})")
        prints[path] = read_settings(path / CONFIG)[1].get("fingerprint")
    for path in paths[1:]:
        if prints[path] != prints[paths[0]]:
            raise UsageError(f"{path} was trained on other data than {paths[0]}")


def _same_protocol(paths: Sequence[Path]) -> None:
    chosen = {path: read_settings(path / CONFIG)[0].protocol for path in paths}
    for path in paths[1:]:
        if chosen[path] != chosen[paths[0]]:
            raise UsageError(
                f"{paths[0]} was validated under {chosen[paths[0]]}, {path} under {chosen[path]}"
            )


def _common(paths: Sequence[Path]) -> str:
    """What all runs were ranked on: the test under a protocol, before validation."""
    have = [
        {file.stem.removeprefix("vectors-") for file in each.glob("vectors-*.npz")}
        for each in paths
    ]
    common = sorted(set.intersection(*have), key=lambda each: (each == VALIDATION, each))
    if not common:
        raise UsageError(
            "the runs have no ranking in common; give each `nmtr evaluate RUN --test --why REASON` "
            "under the same protocol"
        )
    return common[0]


def _results(path: Path, ranked: str) -> tuple[Result, dict[str, Result]]:
    file = path / f"vectors-{ranked}.npz"
    if not file.exists():
        advice = (
            "train it again, with a metric to select by"
            if ranked == VALIDATION
            else f"`nmtr evaluate {path} --test --protocol {ranked} --why REASON`"
        )
        raise UsageError(f"{path} has no {file.name}; {advice}")
    every = load_vectors(file)
    model = read_settings(path / CONFIG)[0].model
    if model not in every:
        raise UsageError(f"{file} holds {', '.join(every)}, not {model}; evaluate the run again")
    return every[model], every


def _named(paths: Sequence[Path], results: Sequence[Result]) -> dict[str, list[Result]]:
    """Runs by model; by folder where one model stands there with other settings too."""
    groups: list[tuple[Settings, list[int]]] = []
    for at, path in enumerate(paths):
        settings = read_settings(path / CONFIG)[0]
        alike = replace(settings, training=replace(settings.training, seed=0))
        for known, members in groups:
            if known == alike:
                members.append(at)
                break
        else:
            groups.append((alike, [at]))
    models = [settings.model for settings, _ in groups]
    found: dict[str, list[Result]] = {}
    for settings, members in groups:
        alone = models.count(settings.model) == 1
        name = settings.model if alone else str(paths[members[0]])
        found[name] = [results[each] for each in members]
    return found
