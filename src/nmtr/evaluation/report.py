"""One model under one protocol: metrics by slice with intervals, the memory baselines beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nmtr.data.split import Split
from nmtr.evaluation.metrics import CUTOFFS, per_user
from nmtr.evaluation.ranking import Progress, ranks
from nmtr.models import make
from nmtr.models.base import Model, Shape

if TYPE_CHECKING:
    from rich.table import Table

BASELINES = ("popularity", "replay")
SLICES = ("all", "in-funnel", "new")
RESAMPLES = 1000
WIDE = 132  # characters that hold a table of every K
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """Per-user metrics of one model: {"all": {"hr@10": (U,), ...}, "in-funnel": ..., "new": ...}.

    users: {slice: (U,) indices in the data}. A slice's users are those with a true item in it, and
    its metrics count these items only.
    """

    model: str
    users: Mapping[str, npt.NDArray[np.int64]]
    values: Mapping[str, Mapping[str, FloatArray]]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """{slice: {metric: {"mean", "low", "high", "users"}}}, a 95 % bootstrap over users."""
        return {
            name: {metric: interval(each) for metric, each in values.items()}
            for name, values in self.values.items()
            if len(self.users[name])
        }


def evaluate(model: Model, split: Split, *, name: str, progress: Progress | None = None) -> Result:
    """Rank every item for every user of the split, exactly."""
    evaluation = split.evaluation
    place = ranks(model, evaluation, progress=progress)
    users: dict[str, npt.NDArray[np.int64]] = {}
    values: dict[str, dict[str, FloatArray]] = {}
    for part in SLICES:
        chosen = {
            "all": np.ones(len(place), np.bool_),
            "in-funnel": evaluation.in_funnel,
            "new": ~evaluation.in_funnel,
        }[part]
        rows = evaluation.truth.row_of_each()[chosen]
        present, counts = np.unique(rows, return_counts=True)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        users[part] = evaluation.users[present]
        values[part] = per_user(place[chosen], indptr) if len(present) else {}
    return Result(name, users, values)


def baselines(split: Split) -> list[Result]:
    """Popularity and replay on the same split."""
    shape = Shape(split.train.n_users, split.train.n_items, split.train.behaviors)
    found = []
    for name in BASELINES:
        model = make(name, {}, shape)
        model.learn(split.train)
        found.append(evaluate(model, split, name=name))
    return found


def to_json(results: list[Result], split: Split) -> dict[str, Any]:
    """The report as data."""
    return {
        "protocol": split.protocol,
        "fold": split.fold,
        "mask": split.mask,
        "in_words": split.describe(),
        "users": len(split.evaluation.users),
        "models": {each.model: each.summary() for each in results},
    }


def table(report: Mapping[str, Any], *, width: int = 120) -> Table:
    """A Rich table: a row per slice and model, HR/NDCG at each K, the protocol as its caption.

    Where `width` characters do not hold every K, three of them are shown.
    """
    from rich.table import Table

    cutoffs = CUTOFFS if width >= WIDE else (10, 50, 100)
    caption = (
        f"{report['in_words']}. HR/NDCG at K, {report['users']:,} users; ± is half a 95 % "
        "interval. A user with several true items may stand in both slices."
    )
    shown = Table(caption=caption, caption_justify="left", padding=(0, 1) if width >= WIDE else 0)
    for heading in ("slice", "model", *(f"@{k}" for k in cutoffs), "±HR@100"):
        shown.add_column(
            heading, justify="left" if heading in ("slice", "model") else "right", no_wrap=True
        )
    for part in SLICES:
        first = True
        for model, summary in report["models"].items():
            if part not in summary:
                continue
            values = summary[part]
            cells = [
                f"{_short(values[f'hr@{k}']['mean'])}/{_short(values[f'ndcg@{k}']['mean'])}"
                for k in cutoffs
            ]
            hit = values["hr@100"]
            users = f"{part} ({int(hit['users']):,})" if first else ""
            shown.add_row(users, model, *cells, _short((hit["high"] - hit["low"]) / 2))
            first = False
        shown.add_section()
    return shown


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def interval(values: FloatArray) -> dict[str, float]:
    """Mean and 95 % percentile bootstrap over users (Poisson weights, seeded, so it repeats)."""
    mean = float(values.mean())
    distinct, counts = np.unique(values, return_counts=True)
    weights = np.random.default_rng(0).poisson(counts, (RESAMPLES, len(distinct)))
    weights = weights[weights.sum(1) > 0]  # of one or two users, a resample may hold nobody
    means = (weights @ distinct) / weights.sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": mean, "low": float(low), "high": float(high), "users": float(len(values))}
