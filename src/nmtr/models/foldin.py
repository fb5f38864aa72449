"""Fold-in: a user's state from their history, all else of the model held as trained.

What training minimises for one user is, in expectation over the drawing of negatives,

    L(p) = sum_r lambda_r (sum_(i in Y_r) log(1 + e^-z) + c_r sum_(j not in Y_r) log(1 + e^z))
           + decay / 2 |p|^2,        z = z^r_i(p),  c_r = n_r k_r / (N - k_r)

with k_r the user's records of behaviour r and n_r the negatives of each. The second sum is taken
over a fixed sample of items, those with high scores more often and at less weight.

A user whom training knew has a state p0 that was right for what they had done `before`, though not
the minimum of L there: training stops early. So that only what is new moves them, their L is
corrected by the slope at p0 that it had before:

    L_now(p) - p . grad L_before(p0) + prior / 2 (p - p0)' V^-1 (p - p0)

V being the variances of users' states. Without news p0 is where it stands. Strangers start from the
mean, and have no slope before. Both are solved for by L-BFGS (Nocedal 1980), preconditioned by the
curvature of the sample at the mean state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_triangular
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nmtr.data.records import Histories

SAMPLE = 1024  # items that stand for all without a record
PRIOR = 0.1  # of a state's variances; chosen on a simulated shop's validation
STEP = 0.05  # of the differences that give the curvature
Floats = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]
Logits = Callable[[Tensor], Tensor]  # (D,) a state, to (R, S) logits
Decay = Callable[[npt.NDArray[np.int64], int], Floats | float]
Value = Callable[[Floats], tuple[float, Floats]]
Loss = Callable[[Items, Floats, Floats], Value]


class LogLossFolding:
    """Folds users into a model of log loss.

    state: (M, D) the users' as trained; logits: of items (S,), makes what gives their logits of the
    R behaviours that the model learns, at `learns` among the histories' own; lambdas, negatives
    (R,); decay: from k (R,) and the number of items with any record to the L2 of a state. loss:
    from items (S,), targets and weights (R, S), what gives the weighted log loss of a state and its
    slope, where there is a faster way than by the logits.
    """

    def __init__(
        self,
        state: Tensor,
        logits: Callable[[Tensor], Logits],
        *,
        n_items: int,
        learns: Sequence[int],
        lambdas: Sequence[float],
        negatives: Sequence[int],
        decay: Decay,
        loss: Loss | None = None,
    ) -> None:
        self.logits, self.n_items, self.learns = logits, n_items, list(learns)
        self.lambdas = np.array(lambdas, np.float32)
        self.negatives = np.array(negatives, np.float32)
        self.decay, self.loss = decay, loss or self._plain
        with torch.inference_mode():
            self.mean = state.mean(0)
            self.prior = (PRIOR / state.var(0, correction=0).clamp(min=1e-8)).numpy()
            self.sample, self.share = self._sample()
            self.curvature = self._curvature()

    def _sample(self) -> tuple[Items, Floats]:
        """Items, and the share of all items without a record that each stands for."""
        every = torch.arange(self.n_items)
        chance = torch.sigmoid(self.logits(every)(self.mean)).mean(0).sqrt().double().numpy()
        chance = np.minimum(1, chance * (SAMPLE / chance.sum()))
        order = np.argsort(chance, kind="stable")
        marks = np.floor(np.cumsum(chance[order]) + 0.5)
        taken = np.sort(order[np.diff(marks, prepend=0) > 0]).astype(np.int32)
        weight = 1 / chance[taken]
        return taken, (weight / weight.sum()).astype(np.float32)

    def _curvature(self) -> Floats:
        """(R, D, D) of log(1 + e^z), the mean over the sample, at the mean state."""
        logits, size = self.logits(torch.from_numpy(self.sample).long()), len(self.mean)
        steps = STEP * torch.eye(size)
        ahead, behind = (
            torch.stack([logits(self.mean + sign * each) for each in steps]) for sign in (1, -1)
        )
        slopes = (ahead - behind) / (2 * STEP)  # (D, R, S)
        y = torch.sigmoid(logits(self.mean))
        weight = y * (1 - y) * torch.from_numpy(self.share)
        found: Floats = torch.einsum("drs,rs,ers->rde", slopes, weight, slopes).numpy()
        return found

    def __call__(self, histories: Histories, start: Tensor, before: Histories) -> Tensor:
        """(B, D) states for `histories`, from those that were right for `before`."""
        with torch.inference_mode(False), torch.no_grad():  # slopes are asked for inside
            rows = [self._row(histories, before, at, start[at]) for at in range(len(histories))]
            return torch.from_numpy(np.stack(rows))

    def _row(self, histories: Histories, before: Histories, at: int, start: Tensor) -> Floats:
        now, then = ([each.items[r].row(at) for r in self.learns] for each in (histories, before))
        p0: Floats = start.numpy().astype(np.float32)
        value, curvature = self._objective(now)
        slope = np.zeros_like(p0)
        if any(map(len, then)):
            _, slope = self._objective(then)[0](p0)

        def corrected(p: Floats) -> tuple[float, Floats]:
            found, grad = value(p)
            gap = p - p0
            pull = self.prior * gap
            return found - float(slope @ gap) + float(pull @ gap) / 2, grad - slope + pull

        return minimise(corrected, p0, curvature + np.diag(self.prior))

    def _objective(self, rows: Sequence[Items]) -> tuple[Value, Floats]:
        """L and its slope for one user's items per behaviour; and about its curvature."""
        k = np.array([len(each) for each in rows])
        own = np.unique(np.concatenate(rows))
        others = ~np.isin(self.sample, own, assume_unique=True)
        items = np.concatenate([own, self.sample[others]])
        share = self.share[others] / max(float(self.share[others].sum()), 1e-9)
        each = (self.negatives * k / np.maximum(self.n_items - k, 1)).astype(np.float32)
        target = np.zeros((len(rows), len(items)), np.float32)
        for r, met in enumerate(rows):
            target[r, np.searchsorted(own, met)] = 1
        weight = np.empty_like(target)
        weight[:, : len(own)] = each[:, None]
        weight[:, len(own) :] = (each * (self.n_items - len(own)))[:, None] * share
        weight[target == 1] = 1
        weight *= self.lambdas[:, None]
        decay = self.decay(k, len(own))
        loss = self.loss(items, target, weight)

        def value(p: Floats) -> tuple[float, Floats]:
            found, slope = loss(p)
            shrunk = decay * p
            return found + float(shrunk @ p) / 2, slope + shrunk

        curvature = np.einsum("r,rde->de", weight.sum(1), self.curvature)
        curvature[np.diag_indices(len(curvature))] += decay
        return value, curvature

    def _plain(self, items: Items, target: Floats, weight: Floats) -> Value:
        """The log loss and its slope in plain torch, for any logits."""
        logits = self.logits(torch.from_numpy(items).long())
        y, w = torch.from_numpy(target), torch.from_numpy(weight)

        def value(p: Floats) -> tuple[float, Floats]:
            state = torch.from_numpy(p).requires_grad_()
            with torch.enable_grad():
                loss = F.binary_cross_entropy_with_logits(
                    logits(state), y, weight=w, reduction="sum"
                )
            (slope,) = torch.autograd.grad(loss, state)
            return loss.item(), slope.numpy()

        return value


def each_of(counts: Sequence[int], behaviors: int) -> tuple[int, ...]:
    """One count for each behaviour, where one is given for all."""
    return tuple(counts) * behaviors if len(counts) == 1 else tuple(counts)


def minimise(value: Value, start: Floats, curvature: Floats, *, most: int = 30) -> Floats:
    """Where a function is least, by L-BFGS in the coordinates in which `curvature` is about 1.

    Ends when a step wins less than a thousandth of what the first one won.
    """
    factor = np.linalg.cholesky(curvature).astype(np.float32)

    def point(x: Floats) -> Floats:
        moved: Floats = start + solve_triangular(factor, x, lower=True, trans=1, check_finite=False)
        return moved

    def at(x: Floats) -> tuple[float, Floats]:
        found, slope = value(point(x))
        return found, solve_triangular(factor, slope, lower=True, check_finite=False)

    x = np.zeros_like(start)
    least, slope = at(x)
    pairs: list[tuple[Floats, Floats]] = []
    first = 0.0
    for _ in range(most):
        way = -_direction(slope, pairs)
        downhill, length = float(way @ slope), 1.0
        while True:
            found, ahead = at(x + length * way)
            if found <= least + 1e-4 * length * downhill or length < 1e-3:
                break
            length /= 2
        if not found < least:
            break
        step, bend = length * way, ahead - slope
        if float(step @ bend) > 1e-10:
            pairs = [*pairs[-7:], (step, bend)]
        won, x, least, slope = least - found, x + step, found, ahead
        first = max(first, won)
        if won < 1e-3 * first:
            break
    return point(x)


def _direction(slope: Floats, pairs: Sequence[tuple[Floats, Floats]]) -> Floats:
    """The slope times what the last steps (step, change of slope) tell of the inverse curvature."""
    found, taken = slope.copy(), []
    for step, bend in reversed(pairs):
        share = float(step @ found) / float(step @ bend)
        found -= share * bend
        taken.append(share)
    if pairs:
        step, bend = pairs[-1]
        found *= float(step @ bend) / float(bend @ bend)
    for (step, bend), share in zip(pairs, reversed(taken), strict=True):
        found += step * (share - float(bend @ found) / float(step @ bend))
    return found
