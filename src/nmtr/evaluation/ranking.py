"""Exact ranking of all items, in blocks of users: where held-out items stand, and the top K."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories
from nmtr.data.split import Evaluation
from nmtr.evaluation import itemblocks
from nmtr.evaluation.itemblocks import top_in_blocks
from nmtr.evaluation.pruned import standing_before, top_of
from nmtr.models.base import Model
from nmtr.models.kernels.pairs import Cascade

BLOCK_CELLS = 4_000_000  # users x items scored at once: 16 MB of float32
BLOCK_USERS = 2048  # ranked at once by a cascade, which holds no users x items
Progress = Callable[[int, int], None]


def ranks(
    model: Model, evaluation: Evaluation, *, progress: Progress | None = None
) -> npt.NDArray[np.int64]:
    """(truths,) the rank, from 1, of each held-out item among all unmasked items.

    Ties stand before it, so that a constant score ranks last; other held-out items of the same user
    count as any item that stands before it, except that equals among themselves share no place.
    """
    truth = evaluation.truth
    above, own = np.empty(truth.nnz, np.int64), np.empty(truth.nnz, np.float32)
    for start, stop, scores in blocks(model, evaluation.histories, evaluation.mask):
        part = slice(truth.indptr[start], truth.indptr[stop])
        mask, wanted = (each.take(np.arange(start, stop)) for each in (evaluation.mask, truth))
        if isinstance(scores, Cascade):
            above[part], own[part] = standing_before(scores, mask, wanted)
        else:
            above[part], own[part] = _standing_before(scores, wanted)
        if progress:
            progress(stop, len(evaluation.users))
    return above - _equals_after(truth.row_of_each(), own)


def _standing_before(
    scores: Tensor, truth: CSR
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each held-out item, how many items score no less, itself one; and its score."""
    rows = torch.from_numpy(truth.row_of_each()).to(scores.device)
    own = scores[rows, torch.from_numpy(truth.indices.astype(np.int64)).to(scores.device)]
    one_each = len(rows) == len(scores) and len(torch.unique_consecutive(rows)) == len(rows)
    above = ((scores if one_each else scores[rows]) >= own[:, None]).sum(1)  # no copy if one each
    return above.cpu().numpy(), own.float().cpu().numpy()


def _equals_after(
    rows: npt.NDArray[np.int64], own: npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    """(truths,) how many later held-out items of the same user have the same score.

    Each would count the others as standing before it, and they cannot all stand last.
    """
    order = np.lexsort((own, rows))
    same = (np.diff(rows[order]) == 0) & (own[order][1:] == own[order][:-1])
    begins = np.flatnonzero(np.concatenate([[True], ~same]))
    ends = np.append(begins[1:], len(rows))
    after = np.empty(len(rows), np.int64)
    after[order] = np.repeat(ends, ends - begins) - np.arange(len(rows)) - 1
    return after


def top(
    model: Model,
    histories: Histories,
    mask: CSR,
    *,
    k: int,
    tie_break: npt.NDArray[np.uint64],
    progress: Progress | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The best k unmasked items of each user, ties in the order of `tie_break` (N,), lowest first.

    Returns items (U, k) with -1 where the user has fewer, their scores (U, k), and the scores per
    behaviour (U, R, k).
    """
    n, behaviors = len(histories), model.shape.n_behaviors
    k_found = min(k, model.shape.n_items)
    items = np.full((n, k), -1, np.int64)
    levels = np.full((n, behaviors, k), -np.inf, np.float32)
    order = np.argsort(np.argsort(tie_break))
    if model.shape.n_items > itemblocks.ITEMS and not _has_cascade(model, histories):
        model.eval()
        for start in range(0, n, itemblocks.USERS):
            stop = min(start + itemblocks.USERS, n)
            own = histories.slice(start, stop), mask.take(np.arange(start, stop))
            found = top_in_blocks(model, *own, order, k_found)
            items[start:stop, :k_found], levels[start:stop, :, :k_found] = found
            if progress:
                progress(stop, n)
        return items, levels[:, -1].copy(), levels
    for start, stop, scores in blocks(model, histories, mask):
        if isinstance(scores, Cascade):
            found = top_of(scores, mask.take(np.arange(start, stop)), order, k_found)
        else:
            found = _top_of(scores, model, histories.slice(start, stop), order, k_found)
        items[start:stop, :k_found], levels[start:stop, :, :k_found] = found
        if progress:
            progress(stop, n)
    return items, levels[:, -1].copy(), levels


def _top_of(
    scores: Tensor, model: Model, histories: Histories, order: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The best k items (B, k), -1 where there are fewer, and their logits (B, R, k)."""
    values, items = _top_rows(scores, k, torch.from_numpy(order).to(scores.device))
    levels = _levels(model, histories, items)
    levels[:, -1] = values
    gone = np.isneginf(values)
    items[gone] = -1
    levels[np.broadcast_to(gone[:, None], levels.shape)] = -np.inf
    return items, levels


def _top_rows(
    scores: Tensor, k: int, order: Tensor
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Top k of each row, equal scores by `order`, those that tie at the edge of the k included."""
    least = scores.topk(k, dim=1).values[:, -1:]
    values = np.empty((len(scores), k), np.float32)
    columns = np.empty((len(scores), k), np.int64)
    for row, (line, edge) in enumerate(zip(scores, least, strict=True)):
        candidates = torch.nonzero(line >= edge).squeeze(1)
        by = np.lexsort((order[candidates].cpu().numpy(), -line[candidates].cpu().numpy()))[:k]
        chosen = candidates[torch.from_numpy(by).to(scores.device)]
        columns[row] = chosen.cpu().numpy()
        values[row] = line[chosen].cpu().numpy()
    return values, columns


@torch.inference_mode()
def _levels(
    model: Model, histories: Histories, columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """(B, R, k) scores of every behaviour for each user's own items (B, k)."""
    scores = model.score_behaviors(model.encode(histories), histories)
    chosen = torch.from_numpy(columns).to(scores.device)[:, None].expand(-1, scores.shape[1], -1)
    found: npt.NDArray[np.float32] = scores.gather(2, chosen).float().cpu().numpy()
    return found


def blocks(
    model: Model, histories: Histories, mask: CSR
) -> Iterator[tuple[int, int, Tensor | Cascade]]:
    """(start, stop, what ranks these users): a cascade where the model has one, else scores."""
    model.eval()
    if not _has_cascade(model, histories):
        yield from score_blocks(model, histories, mask)
        return
    for start in range(0, len(histories), BLOCK_USERS):
        block = histories.slice(start, start + BLOCK_USERS)
        with torch.inference_mode():
            cascade = model.cascade(model.encode(block))
        assert cascade is not None
        yield start, start + len(block), cascade


@torch.inference_mode()
def _has_cascade(model: Model, histories: Histories) -> bool:
    return model.cascade(model.encode(histories.slice(0, 1))) is not None


@torch.inference_mode()
def score_blocks(
    model: Model, histories: Histories, mask: CSR
) -> Iterator[tuple[int, int, Tensor]]:
    """(start, stop, scores (stop - start, N)) with masked items at minus infinity."""
    model.eval()
    step = max(1, BLOCK_CELLS // model.shape.n_items)
    for start in range(0, len(histories), step):
        block = histories.slice(start, start + step)
        stop = start + len(block)
        scores = model.score(model.encode(block), block).clone()
        # A score that is no number would compare as neither above nor below and rank first.
        scores.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        masked = mask.take(np.arange(start, stop))
        rows = torch.from_numpy(masked.row_of_each()).to(scores.device)
        columns = torch.from_numpy(masked.indices.astype(np.int64)).to(scores.device)
        scores[rows, columns] = -torch.inf
        yield start, stop, scores
