"""What a study has found: the winner as settings, every trial as a row, all that was spent."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from nmtr import __version__
from nmtr.files import write_text
from nmtr.models.space import Side
from nmtr.training.search import Search
from nmtr.training.settings import Settings, override
from nmtr.training.study import FINISHED, Round, Trial


@dataclass(frozen=True)
class Found:
    """A study as it stands.

    base: the settings that trials differ from; options: the names of those that are searched;
    edges: of the space as it is now, on which the winner lies; ended: by `trials`, `minutes` or
    `interruption`.
    """

    about: Mapping[str, Any]
    base: Settings
    trials: Sequence[Trial]
    rounds: Sequence[Round]
    sessions: Sequence[Mapping[str, Any]]
    options: Sequence[str]
    best: Trial | None
    edges: Mapping[str, Side]
    ended: str

    @classmethod
    def of(cls, search: Search, about: Mapping[str, Any], ended: str) -> Found:
        study = search.study
        names = {option for name, each in search.space.items() for option in each.sets(name)}
        return cls(
            about,
            search.base,
            study.trials(),
            study.rounds,
            study.inner.user_attrs["sessions"],
            sorted(names),
            study.best(),
            search.edges(),
            ended,
        )

    def chosen(self, trial: Trial) -> dict[str, Any]:
        """The values that a trial had of the options that are searched."""
        values = {**self.base.options, **asdict(self.base.training), **trial.options}
        return {name: values[name] for name in self.options}

    def summary(self) -> dict[str, Any]:
        """All but the trials themselves, for JSON."""
        best = self.best
        outcomes = Counter(each.outcome for each in self.trials)
        return {
            **self.about,
            "nmtr": __version__,
            "ended_by": self.ended,
            "spent": {
                "trials": sum(outcomes[each] for each in FINISHED),
                "seconds": round(sum(each.seconds for each in self.trials), 3),
                "outcomes": dict(outcomes),
            },
            "sessions": list(self.sessions),
            "rounds": [
                {
                    "space": {name: str(axis) for name, axis in each.axes.items()},
                    "opened_by": {"trial": each.winner, "edges": dict(each.edges)},
                }
                for each in self.rounds
            ],
            "best": best
            and {
                "trial": best.number,
                "value": best.value,
                "epoch": best.epoch,
                "options": self.chosen(best),
                "edges": dict(self.edges),
            },
        }


def write(found: Found, path: Path) -> None:
    """Write trials.csv, study.json and, where a trial came to an end, best.toml."""
    write_text(path / "trials.csv", _table(found))
    write_text(path / "study.json", json.dumps(found.summary(), indent=2) + "\n")
    if found.best:
        write_text(path / "best.toml", _toml(found, found.best))


def _toml(found: Found, best: Trial) -> str:
    metric = found.about["metric"]
    spent = found.summary()["spent"]
    head = (
        f"# nmtr tune: trial {best.number}, the best of {spent['trials']} in {len(found.rounds)} "
        f"round(s), {spent['seconds']:.0f} s.\n"
        f"# {metric} {best.value:.5f} on validation"
        f"{f', after epoch {best.epoch}' if best.epoch else ''}.\n"
    )
    about = {"nmtr": __version__, "fingerprint": found.about["data"]}
    return head + tomli_w.dumps(about | asdict(override(found.base, best.options)))


def _table(found: Found) -> str:
    metric = found.about["metric"]
    marks = list(dict.fromkeys((metric, "hr@100", "ndcg@100")))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ("trial", "round", "outcome", "epoch", "epochs", "seconds")
    writer.writerow([*about, *marks, *found.options, f"{metric} by epoch", "error"])
    for each in found.trials:
        at = each.epochs[max(each.epoch - 1, 0)] if each.value is not None else {}
        by_epoch = " ".join(f"{epoch[metric]:.5f}" for epoch in each.epochs)
        writer.writerow(
            [
                *(each.number, each.round, each.outcome),
                *(each.epoch, len(each.epochs), each.seconds),
                *(f"{at[mark]:.5f}" if mark in at else "" for mark in marks),
                *map(_cell, found.chosen(each).values()),
                *(by_epoch, each.error),
            ]
        )
    return text.getvalue()


def _cell(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value
