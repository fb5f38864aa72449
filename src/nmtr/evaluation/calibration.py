"""From scores to probabilities: corrected for negative sampling, fitted on cells held out.

A log loss with n negatives per positive learns, for user u and behaviour r, odds that are too high
by (N - k) / (n k), where k of the N items are u's records: the share of the negatives that it saw.
The corrected log odds are z + log(n k / (N - k)). On a tenth of all cells (user, item), chosen by
hash, whose records training never sees, P = sigmoid(a z + b log(k / (N - k)) + c) is then fitted
per behaviour (Platt scaling with the correction as a second input), and c is moved at the end so
that the mean over all pairs is the observed rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories, Records
from nmtr.data.vocabulary import mix
from nmtr.models.base import Model

HELD_TENTH = 10  # one cell in ten
FIT_USERS = 2000  # users whose cells are used: enough for three parameters
FIT_CELLS = 20_000_000  # and fewer users where they have more cells than this, so memory is bounded
SALT = 77


@dataclass(frozen=True)
class Calibration:
    """Per behaviour: P = sigmoid(a z + b log(k / (N - k)) + c). Arrays of R."""

    slope: tuple[float, ...]
    prior: tuple[float, ...]
    offset: tuple[float, ...]

    def probabilities(self, scores: Tensor, histories: Histories) -> Tensor:
        """(B, R, X) logits of any X items, and the users' histories, to probabilities."""
        a, b, c = (
            torch.tensor(each, dtype=torch.float32, device=scores.device)
            for each in (self.slope, self.prior, self.offset)
        )
        prior = torch.from_numpy(log_odds(histories)).to(scores.device)
        return torch.sigmoid(a[:, None] * scores + (b * prior + c)[:, :, None])

    def to_json(self) -> dict[str, Any]:
        return {"slope": self.slope, "prior": self.prior, "offset": self.offset}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Calibration:
        return cls(*(tuple(found[name]) for name in ("slope", "prior", "offset")))


def log_odds(histories: Histories) -> npt.NDArray[np.float32]:
    """(B, R) log(k / (N - k)) of each user's k records among N items, half a record at least."""
    n = histories.items[0].n_columns
    counts = np.stack([each.lengths() for each in histories.items], 1).astype(np.float64)
    counts = np.clip(counts, 0.5, n - 0.5)
    return np.log(counts / (n - counts)).astype(np.float32)


def held_cells(data: Interactions, users: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(U, N) the cells of these users that calibration holds out, by a hash of the ids."""
    values = mix(data.user_hash[users][:, None], np.asarray(data.item_hash)[None], salt=SALT)
    held: npt.NDArray[np.bool_] = values % np.uint64(HELD_TENTH) == 0
    return held


def without_held(data: Interactions, records: Records) -> Records:
    """Training records less every pair in a held-out cell."""
    sets = []
    for each in records.sets:
        rows = each.row_of_each()
        values = mix(data.user_hash[rows], data.item_hash[each.indices], salt=SALT)
        keep = values % np.uint64(HELD_TENTH) != 0
        sets.append(CSR.from_keys(each.keys()[keep], each.n_rows, each.n_columns))
    return replace(records, sets=tuple(sets))


@dataclass(frozen=True)
class Cells:
    """Held cells and their scores by a model that trained without them, C of them.

    user: (C,) which of the users; scores, prior, label: (R, C).
    """

    user: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    prior: npt.NDArray[np.float32]
    label: npt.NDArray[np.float32]

    def take(self, keep: npt.NDArray[np.bool_]) -> Cells:
        """The cells kept (C,)."""
        return Cells(
            self.user[keep], self.scores[:, keep], self.prior[:, keep], self.label[:, keep]
        )


def score_held(model: Model, data: Interactions, full: Records, reduced: Records) -> Cells:
    """The held cells of a sample of users.

    model: trained on `reduced` (without_held of `full`); labels come from `full`.
    """
    chosen = _sample_users(data, full)
    rows, scores, priors, labels = [], [], [], []
    for users, block, prior in _blocks(model, reduced, chosen):
        held = held_cells(data, users)
        truth = np.stack([_dense(each.take(users)) for each in full.sets], 1)
        rows.append(users[np.nonzero(held)[0]])
        scores.append(np.moveaxis(block, 1, 0)[:, held])
        priors.append(np.repeat(prior.T[:, :, None], held.shape[1], 2)[:, held])
        labels.append(np.moveaxis(truth, 1, 0)[:, held])
    return Cells(np.concatenate(rows), *(np.concatenate(x, 1) for x in (scores, priors, labels)))


def fit(cells: Cells) -> Calibration:
    """What makes probabilities of the cells' scores."""
    found = []
    for z, prior, label in zip(cells.scores, cells.prior, cells.label, strict=True):
        found.append(_logistic(np.stack([z, prior, np.ones_like(z)], 1), label))
    return Calibration(*(tuple(float(each[n]) for each in found) for n in range(3)))


def centre(
    calibration: Calibration, model: Model, data: Interactions, records: Records
) -> Calibration:
    """Move each offset so that the mean probability over all pairs is the observed rate.

    `model` is the final one, trained on all of `records`.
    """
    users = _sample_users(data, records)
    blocks = [(block, prior) for _, block, prior in _blocks(model, records, users)]
    offsets = []
    for r, each in enumerate(records.sets):
        rate = each.lengths()[users].sum() / (len(users) * each.n_columns)
        z = np.concatenate([block[:, r] for block, _ in blocks]).astype(np.float64)
        prior = np.concatenate([prior[:, r] for _, prior in blocks])[:, None]
        offsets.append(_solve_offset(calibration.slope[r] * z + calibration.prior[r] * prior, rate))
    return replace(calibration, offset=tuple(offsets))


def _sample_users(data: Interactions, records: Records) -> npt.NDArray[np.int64]:
    known = np.flatnonzero(records.seen().lengths() > 0)
    order = np.argsort(mix(data.user_hash[known], data.user_hash[known], salt=SALT + 1))
    return known[order[: min(FIT_USERS, max(50, FIT_CELLS // records.n_items))]]


@torch.inference_mode()
def _blocks(
    model: Model, records: Records, users: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Blocks of users, their scores (U, R, N), and their log odds (U, R)."""
    model.eval()
    step = max(1, 2_000_000 // records.n_items)
    for start in range(0, len(users), step):
        chosen = users[start : start + step]
        histories = records.histories(chosen)
        scores = model.score_behaviors(model.encode(histories), histories)
        yield chosen, scores.float().cpu().numpy(), log_odds(histories)


def _dense(rows: CSR) -> npt.NDArray[np.float32]:
    out = np.zeros((rows.n_rows, rows.n_columns), np.float32)
    out[rows.row_of_each(), rows.indices] = 1
    return out


def _logistic(
    features: npt.NDArray[np.floating], labels: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Logistic regression by Newton's method, halving steps that do not help; (features,) weights.

    Starts from, and is held slightly towards, what theory gives: weights of 1 and no offset.
    """
    x, y = features.astype(np.float64), labels.astype(np.float64)
    centre = np.ones(x.shape[1])
    centre[-1] = 0
    ridge = np.full(x.shape[1], 1e-2)
    ridge[-1] = 1e-6

    def objective(weights: npt.NDArray[np.float64]) -> float:
        z = x @ weights
        return float(
            (np.logaddexp(0, z) - y * z).sum() + (ridge * (weights - centre) ** 2).sum() / 2
        )

    weights, best = centre, objective(centre)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -40, 40)))
        gradient = x.T @ (y - p) - ridge * (weights - centre)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() > 1e-7 and objective(weights + step) > best:
            step /= 2
        if np.abs(step).max() <= 1e-7:
            break
        weights = weights + step
        best = objective(weights)
    return weights


def _solve_offset(logits: npt.NDArray[np.float64], rate: float) -> float:
    """The c at which mean(sigmoid(logits + c)) is the rate, by bisection."""
    low, high = -40.0 - logits.max(), 40.0 - logits.min()
    for _ in range(40):
        middle = (low + high) / 2
        mean = (1 / (1 + np.exp(-np.clip(logits + middle, -60, 60)))).mean()
        low, high = (middle, high) if mean < rate else (low, middle)
    return float((low + high) / 2)
