"""Reliability: of what was given a probability of p, does a share of p come true?

Measured on the cells that calibration holds out, which the model never trained on. The calibration
is fitted on one half of the users and judged on the other half, both ways, so that nothing is
judged by what it was fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nmtr.evaluation.calibration import Calibration, Cells, fit

BINS = 10
RESAMPLES = 1000
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Cells of about one probability: the mean given, the share that came true and its interval.

    low, high: 95 % bootstrap over users, as a user's cells are not independent.
    """

    cells: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """One behaviour. error: mean over cells of |given - came true| of their bin."""

    behavior: str
    cells: int
    records: int
    error: float
    bins: tuple[Bin, ...]

    @property
    def rate(self) -> float:
        """The share of all cells that came true."""
        return self.records / self.cells

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Reliability:
        """Raises KeyError or TypeError for what is no reliability."""
        bins = tuple(Bin(**each) for each in found["bins"])
        return cls(**{**found, "bins": bins})


def reliability(cells: Cells, behaviors: Sequence[str]) -> list[Reliability]:
    """By behaviour; none where a half of the users has no cell."""
    given = _cross_fitted(cells)
    if given is None:
        return []
    _, user = np.unique(cells.user, return_inverse=True)
    return [
        _of_behavior(name, user, given[r], cells.label[r].astype(np.float64))
        for r, name in enumerate(behaviors)
    ]


def _cross_fitted(cells: Cells) -> FloatArray | None:
    """(R, C) probabilities, each by the calibration of the other half of the users."""
    _, place = np.unique(cells.user, return_inverse=True)
    second = place % 2 == 1
    if second.all() or not second.any():
        return None
    given = np.empty(cells.scores.shape)
    for half in (second, ~second):
        given[:, half] = _probabilities(fit(cells.take(~half)), cells.take(half))
    return given


def _probabilities(found: Calibration, cells: Cells) -> FloatArray:
    slope, prior, offset = (
        np.array(each)[:, None] for each in (found.slope, found.prior, found.offset)
    )
    given: FloatArray = expit(slope * cells.scores + prior * cells.prior + offset)
    return given


def _of_behavior(
    name: str, user: npt.NDArray[np.int64], given: FloatArray, label: FloatArray
) -> Reliability:
    """Bins of equal sums of probabilities: each expects as many records as any other."""
    order = np.argsort(given, kind="stable")
    reached = np.cumsum(given[order])
    place = np.empty(len(given), np.int64)
    place[order] = np.minimum(BINS * (reached - given[order] / 2) / reached[-1], BINS - 1)
    counts, true, total = (
        _by_user_and_bin(user, place, each) for each in (np.ones_like(given), label, given)
    )
    weights = np.random.default_rng(0).poisson(1.0, (RESAMPLES, len(counts))).astype(np.float64)
    drawn = weights @ counts
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(drawn > 0, weights @ true / drawn, np.nan)
    bins = []
    for at in np.flatnonzero(counts.sum(0)):
        known = shares[:, at][np.isfinite(shares[:, at])]
        low, high = np.percentile(known, [2.5, 97.5])
        n = counts[:, at].sum()
        predicted, observed = total[:, at].sum() / n, true[:, at].sum() / n
        bins.append(Bin(int(n), float(predicted), float(observed), float(low), float(high)))
    error = sum(each.cells * abs(each.predicted - each.observed) for each in bins) / len(given)
    return Reliability(name, len(given), int(label.sum()), float(error), tuple(bins))


def _by_user_and_bin(
    user: npt.NDArray[np.int64], place: npt.NDArray[np.int64], values: FloatArray
) -> FloatArray:
    """(users, BINS) sums of values (C,)."""
    users = int(user.max()) + 1
    found = np.bincount(user * BINS + place, values, minlength=users * BINS)
    return found.astype(np.float64).reshape(users, BINS)
