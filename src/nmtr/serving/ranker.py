"""A model made ready to rank: what does not depend on the user is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories
from nmtr.evaluation.pruned import best_first, least_of_top, top_of, top_rows
from nmtr.evaluation.ranking import BLOCK_CELLS, BLOCK_USERS
from nmtr.models.base import Model
from nmtr.models.kernels import Floats, Ints
from nmtr.models.kernels.pairs import Cascade
from nmtr.serving.twostage import TwoStages

Shift = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ranked:
    """The best k items of each of B users, best first; -1, at minus infinity, where there are less.

    items (B, k); scores (B, k), what they are ordered by; levels (B, R, k), logits per behaviour.
    """

    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    levels: npt.NDArray[np.float32]


class Ranker:
    """Ranks all items for users given by their state.

    tie_break: (N,), the order of equal scores, lowest first. candidates: rank so many of each
    user's alone, found by an index (twostage.py); 0 for all items. sample: histories of some
    users, by whom the index is laid out.
    """

    def __init__(
        self,
        model: Model,
        tie_break: npt.NDArray[np.uint64],
        *,
        candidates: int = 0,
        sample: Histories | None = None,
    ) -> None:
        self.model, self.candidates = model.eval(), candidates
        self.order = np.argsort(np.argsort(tie_break))
        self._stages: TwoStages | None = None
        if candidates:
            with torch.inference_mode():
                states = None if sample is None else self.model.encode(sample)
            self._stages = TwoStages(model, self.order, candidates, states=states)
        nobody = CSR(np.zeros(2, np.int64), np.zeros(0, np.int32), model.shape.n_items)
        alone = Histories(np.array([-1]), (nobody,) * model.shape.n_behaviors)
        with torch.inference_mode():
            self.stranger = model.encode(alone)  # (1, E)
            self._cascade = model.cascade(self.stranger)

    @torch.inference_mode()
    def best(
        self, state: Tensor, histories: Histories, mask: CSR, k: int, shift: Shift | None = None
    ) -> Ranked:
        """The best k items outside of `mask` (B rows).

        shift: (N,) is taken off the target's logits before they are ordered.
        """
        k = min(k, self.model.shape.n_items)
        blocks = self._pruned if self._cascade else self._scored
        if self._stages:
            blocks = self._stages.blocks
        parts = list(blocks(state, histories, mask, k, shift))
        items, levels = (np.concatenate(each) for each in zip(*parts, strict=True))
        scores = levels[:, -1].copy()
        if shift is not None:
            levels[:, -1] += np.where(items >= 0, shift[items], 0)
        return Ranked(items, scores, levels)

    def _pruned(
        self, state: Tensor, histories: Histories, mask: CSR, k: int, shift: Shift | None
    ) -> Iterator[tuple[Ints, Floats]]:
        """Blocks of items (b, k) and their logits (b, R, k), the target's less `shift`."""
        for start in range(0, max(len(state), 1), BLOCK_USERS):
            stop = min(start + BLOCK_USERS, len(state))
            cascade = self.model.cascade(state[start:stop], self._cascade)
            assert cascade is not None
            if shift is not None:
                bias = cascade.bias.copy()
                bias[:, -1] -= shift
                cascade = cascade._replace(bias=bias)
            if stop - start == 1:
                yield _top_one(cascade, mask.row(start), self.order, k)
            else:
                yield top_of(cascade, mask.take(np.arange(start, stop)), self.order, k)

    def _scored(
        self, state: Tensor, histories: Histories, mask: CSR, k: int, shift: Shift | None
    ) -> Iterator[tuple[Ints, Floats]]:
        """The same for models that only score."""
        step = max(1, BLOCK_CELLS // self.model.shape.n_items)
        for start in range(0, max(len(state), 1), step):
            block, rows = state[start : start + step], histories.slice(start, start + step)
            scores = self.model.score(block, rows).float().cpu().numpy()
            if shift is not None:
                scores = scores - shift
            yield self._top(scores, block, rows, mask.take(np.arange(start, start + len(rows))), k)

    def _top(
        self, scores: Floats, state: Tensor, histories: Histories, mask: CSR, k: int
    ) -> tuple[Ints, Floats]:
        items, values = top_scores(scores, mask, self.order, k)
        levels = np.full((len(items), self.model.shape.n_behaviors, k), -np.inf, np.float32)
        met = np.unique(items[items >= 0])
        if len(met):
            chosen = torch.from_numpy(met).to(state.device)
            found = self.model.score_behaviors(state, histories, chosen).float().cpu().numpy()
            at = np.searchsorted(met, np.maximum(items, met[0]))[:, None].repeat(levels.shape[1], 1)
            levels = np.where(items[:, None] >= 0, np.take_along_axis(found, at, 2), levels)
        levels[:, -1] = values
        return items, levels


def top_scores(scores: Floats, mask: CSR, order: Ints, k: int) -> tuple[Ints, Floats]:
    """The best k unmasked of scores (B, N), -1 where there are fewer: items and scores (B, k)."""
    items = np.full((len(scores), k), -1, np.int64)
    values = np.full((len(scores), k), -np.inf, np.float32)
    for row, line in enumerate(scores):
        found = _best_of_line(line.copy(), mask.row(row), order, k)
        items[row, : len(found)], values[row, : len(found)] = found, line[found]
    return items, values


@numba.njit(cache=True, nogil=True)
def _best_of_line(line: Floats, masked: npt.NDArray[np.int32], order: Ints, k: int) -> Ints:
    """The best k items of a line of scores, which is written over; what is no number is left out.

    Plus infinity counts as the largest number there is.
    """
    most = np.finfo(np.float32).max
    for x in range(len(line)):
        if np.isnan(line[x]):
            line[x] = -np.inf
        elif line[x] > most:
            line[x] = most
    line[masked] = -np.inf
    edge = least_of_top(line, k)
    found = np.flatnonzero((line >= edge) & (line > -np.inf))
    return found[best_first(line[found], found, order)[:k]]


def _top_one(
    cascade: Cascade, masked: npt.NDArray[np.int32], order: Ints, k: int
) -> tuple[Ints, Floats]:
    """The best of one user, in this thread."""
    items = np.full((1, k), -1, np.int64)
    logits = np.full((1, cascade.bias.shape[1], k), -np.inf, np.float32)
    top_rows(cascade, 0, 1, np.array([0, len(masked)]), masked, order, items, logits)
    return items, logits
