"""Several models over the same users: who beats whom, and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from nmtr.evaluation.report import interval
from nmtr.evaluation.significance import Difference, Vector, difference, holm, seed_mean

ALPHA = 0.05


@dataclass(frozen=True)
class Standing:
    """A model's mean over users and seeds, its 95 % interval over users, and each seed's mean."""

    name: str
    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """The better by mean, the other, what lies between them, and p of permutation after Holm."""

    first: str
    second: str
    gap: Difference
    p: float

    @property
    def sentence(self) -> str:
        """Who beats whom, in words."""
        if self.p >= ALPHA:
            return f"{self.first} and {self.second} cannot be told apart (p = {shown(self.p)})"
        how_much = f"{self.gap.mean:+.4f}"
        if np.isfinite(self.gap.relative_low):
            low, high = self.gap.relative_low, self.gap.relative_high
            how_much = f"{self.gap.relative:.1%} ({low:.1%} to {high:.1%})"
        return f"{self.first} beats {self.second} by {how_much}, p = {shown(self.p)}"


@dataclass(frozen=True)
class Comparison:
    """Models, best first, and their pairs."""

    users: int
    models: tuple[Standing, ...]
    pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        pairs = [asdict(each) | {"sentence": each.sentence} for each in self.pairs]
        return {
            "users": self.users, "models": [asdict(each) for each in self.models], "pairs": pairs,
        }  # fmt: skip


def compare(values: Mapping[str, Sequence[Vector]], *, against: str | None = None) -> Comparison:
    """Compare models by each user's value, a vector (U,) for each seed of each model.

    against: only pairs with this model. p-values are corrected by Holm over the pairs compared.
    """
    means = {name: seed_mean(runs) for name, runs in values.items()}
    models = [_standing(name, means[name], values[name]) for name in means]
    models.sort(key=lambda each: -each.mean)
    names = [each.name for each in models]
    chosen = [each for each in combinations(names, 2) if against is None or against in each]
    gaps = [difference(means[a], means[b]) for a, b in chosen]
    corrected = holm([each.permutation for each in gaps])
    pairs = (Pair(*each, gap, p) for each, gap, p in zip(chosen, gaps, corrected, strict=True))
    return Comparison(len(next(iter(means.values()))), tuple(models), tuple(pairs))


def _standing(name: str, mean: Vector, runs: Sequence[Vector]) -> Standing:
    found = interval(mean)
    seeds = tuple(float(each.mean()) for each in runs)
    return Standing(name, found["mean"], found["low"], found["high"], seeds)


def shown(p: float) -> str:
    """A p-value as it is printed."""
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
