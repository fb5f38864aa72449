"""Ranking in two stages: an index finds candidates, and the model scores those alone.

The index holds what Model.index_vectors gives. Of a cascade by probability that is its floor, at
most 1 below the logit, so the second stage may order candidates anew, and an item that only the
levels below the target would have lifted may be missed: docs/scale.md has how many are.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories
from nmtr.errors import UsageError
from nmtr.evaluation.pruned import best_first, least_of_top
from nmtr.models.base import Model
from nmtr.models.kernels import FAST, Floats, Ints
from nmtr.models.kernels.pairs import Cascade, levels
from nmtr.models.kernels.threads import even_cuts, in_threads
from nmtr.serving.cache import Cache
from nmtr.serving.index import Index, faiss

USERS = 256  # ranked at once
CELLS = 2**22  # users x items that a search gives at once: 48 MB
FEW = 4  # times the candidates that are asked for: who may get no more items is given all
KEPT = 4  # indexes, of different penalties
Items = npt.NDArray[np.int32]


class TwoStages:
    """Ranks `count` candidates of each user: as many unmasked items, or all where there are less.

    order: (N,) which of equal items comes first; states: of some users, by whom the index is laid
    out. Raises UsageError for a model whose scores are no inner products, or without faiss.
    """

    def __init__(
        self, model: Model, order: Ints, count: int, *, states: Tensor | None = None
    ) -> None:
        faiss()
        if count < 1:
            raise UsageError(f"candidates: expected 1 or more, got {count}")
        with torch.inference_mode():
            vectors = model.index_vectors()
        if vectors is None:
            raise UsageError(
                "candidates: the scores of this model are no inner products of users and items, so "
                "no index finds its best; rank all items, or take a model such as nmtr-gmf"
            )
        self.model, self.order, self.count = model, order, count
        self._vectors: Floats = vectors.float().cpu().numpy()
        self._users = None if states is None else self._asked(states)
        self._indexes: Cache[Index] = Cache(KEPT)

    def blocks(
        self, state: Tensor, histories: Histories, mask: CSR, k: int, shift: Floats | None
    ) -> Iterator[tuple[Ints, Floats]]:
        """Blocks of the best k items (b, k) and logits (b, R, k), the target's less `shift`."""
        index = self._index(shift)
        for start in range(0, max(len(state), 1), USERS):
            stop = min(start + USERS, len(state))
            rows, hidden = histories.slice(start, stop), mask.take(np.arange(start, stop))
            asked = self._asked(state[start:stop])
            found = self._candidates(index, asked, hidden, max(self.count, k))
            yield self._best(state[start:stop], rows, found, k, shift)

    def _asked(self, state: Tensor) -> Floats:
        """(B, D + 1) what the index is asked for these users, a 1 for the bias last."""
        queries = self.model.index_queries(state).detach().float().cpu().numpy()
        return np.concatenate([queries, np.ones((len(queries), 1), np.float32)], 1)

    def _index(self, shift: Floats | None) -> Index:
        key = "" if shift is None else sha256(shift.tobytes()).hexdigest()
        found = self._indexes.get(key)
        if found is None:
            vectors = self._vectors
            if shift is not None:
                vectors = vectors.copy()
                vectors[:, -1] -= shift
            found = Index(vectors, self._users)
            self._indexes.put(key, found)
        return found

    def _candidates(self, index: Index, asked: Floats, mask: CSR, count: int) -> list[Items]:
        """Of each user the `count` best unmasked items that the index finds.

        Who has few of them is given all. Where the mask leaves too few of what was found, twice as
        many are asked for, and half of all items is as good as all.
        """
        found: list[Items] = [np.zeros(0, np.int32)] * len(asked)
        hidden = np.zeros(index.n_items, np.bool_)
        masked = np.array([len(np.unique(mask.row(row))) for row in range(len(asked))], np.int64)
        wanting = np.arange(len(asked))
        size = count + int(np.minimum(masked, count).max(initial=0))
        while len(wanting):
            every = size >= index.n_items // 2
            few = every | (index.n_items - masked[wanting] <= FEW * count)
            some = searched(index, asked[wanting[~few]], size)
            left = []
            for row, is_few in zip(wanting.tolist(), few, strict=True):
                hidden[mask.row(row)] = True
                if is_few:
                    found[row] = np.flatnonzero(~hidden).astype(np.int32)
                else:
                    line = next(some)
                    line = line[line >= 0]
                    found[row] = line[~hidden[line]][:count].astype(np.int32)
                    if len(found[row]) < count:
                        left.append(row)
                hidden[mask.row(row)] = False
            wanting, size = np.array(left, np.int64), 2 * size
        return found

    def _best(
        self, state: Tensor, histories: Histories, found: list[Items], k: int, shift: Floats | None
    ) -> tuple[Ints, Floats]:
        """The best k of each user's candidates, -1 where there are fewer, and their logits."""
        n, behaviors = len(found), self.model.shape.n_behaviors
        items = np.full((n, k), -1, np.int64)
        logits = np.full((n, behaviors, k), -np.inf, np.float32)
        cascade = self.model.cascade(state)
        starts = np.concatenate([[0], np.cumsum([len(each) for each in found])]).astype(np.int64)
        joined = np.concatenate([*found, np.zeros(0, np.int32)])
        off = np.zeros(self.model.shape.n_items, np.float32) if shift is None else shift

        def part(low: int, high: int) -> None:
            for row in range(low, high):
                own = found[row]
                chosen = torch.from_numpy(own).to(state.device)
                with torch.inference_mode():
                    scores = self.model.score_behaviors(
                        state[row : row + 1], histories.slice(row, row + 1), chosen
                    )
                z = scores[0].float().cpu().numpy().copy()
                z[-1] -= off[own]
                keep_best(z, own, self.order, items[row], logits[row])

        def compiled(low: int, high: int) -> None:
            assert cascade is not None
            top_among(cascade, low, high, starts, joined, off, self.order, items, logits)

        if cascade is None:
            part(0, n)
        else:
            in_threads(compiled, even_cuts(n, max(1, min(torch.get_num_threads(), n))))
        return items, logits


def searched(index: Index, queries: Floats, count: int) -> Iterator[Ints]:
    """What the index finds for each user, some of them at a time."""
    step = max(1, CELLS // count)
    for start in range(0, len(queries), step):
        yield from index.search(queries[start : start + step], count)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def floors_among(c: Cascade, user: int, items: Items, off: Floats) -> Floats:
    """(n,) the floors of one user's items, less `off`, where units are GMF."""
    top = c.bias.shape[1] - 1
    ours, floor = c.h[top] * c.p[user], np.empty(len(items), np.float32)
    for x in range(len(items)):
        theirs, total = c.q[items[x]], np.float32(0)
        for e in range(len(ours)):
            total += ours[e] * theirs[e]
        floor[x] = total + c.bias[items[x], top] - off[items[x]]
    return floor


@numba.njit(cache=True, nogil=True)
def top_among(
    c: Cascade, low: int, high: int, starts: Ints, candidates: Items, off: Floats,
    order: Ints, items: Ints, logits: Floats,
) -> None:  # fmt: skip
    """Fill the rows low..high-1 of items (B, k) and logits (B, R, k)."""
    for user in range(low, high):
        own = candidates[starts[user] : starts[user + 1]]
        z = np.empty((logits.shape[1], len(own)), np.float32)
        levels(c, user, own.astype(np.int64), floors_among(c, user, own, off), z)
        keep_best(z, own, order, items[user], logits[user])


@numba.njit(cache=True, nogil=True)
def keep_best(z: Floats, own: Items, order: Ints, items: Ints, logits: Floats) -> None:
    """Fill items (k,) and logits (R, k) of one user with the best of own (n,), whose logits are z.

    What is no number, or minus infinity, is left out.
    """
    least, most = np.float32(-np.inf), np.finfo(np.float32).max
    scores = z[-1]
    for x in range(len(own)):
        if np.isnan(scores[x]):
            scores[x] = least
        elif scores[x] > most:
            scores[x] = most
    edge = least_of_top(scores, len(items))
    there = np.flatnonzero((scores >= edge) & (scores > least))
    chosen = there[best_first(scores[there], own[there].astype(np.int64), order)]
    for place in range(min(len(chosen), len(items))):
        items[place] = own[chosen[place]]
        for r in range(len(z)):
            logits[r, place] = z[r, chosen[place]]
