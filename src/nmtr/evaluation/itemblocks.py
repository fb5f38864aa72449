"""The top K of more items than are scored at once: block by block, each block's best merged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories
from nmtr.models.base import Model

ITEMS = 2**17  # scored at once
USERS = 64  # scored at once: with ITEMS, 32 MB of float32


@torch.inference_mode()
def top_in_blocks(
    model: Model, histories: Histories, mask: CSR, order: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The best k unmasked items (B, k), -1 where there are fewer, and their logits (B, R, k).

    order (N,): which of equal items comes first. What is among the best k of all is among the best
    k of its block, so that the merged blocks give what one block of all items would.
    """
    state = model.encode(histories)
    users, N = len(histories), model.shape.n_items
    values = np.empty((users, 0), np.float32)
    items = np.empty((users, 0), np.int64)
    for low in range(0, N, ITEMS):
        high = min(low + ITEMS, N)
        columns = torch.arange(low, high, device=state.device)
        scores = model.score(state, histories, columns).clone()
        own_values, own_items = _best_of_block(_masked(scores, mask, low, high), order, low, k)
        values = np.concatenate([values, own_values], 1)
        items = np.concatenate([items, own_items], 1)
        best = np.lexsort((order[items], -values), axis=1)[:, :k]
        values = np.take_along_axis(values, best, 1)
        items = np.take_along_axis(items, best, 1)
    gone = np.isneginf(values)
    levels = _levels(model, state, histories, items)
    levels[:, -1] = values
    items[gone] = -1
    levels[np.broadcast_to(gone[:, None], levels.shape)] = -np.inf
    return items, levels


def _masked(scores: Tensor, mask: CSR, low: int, high: int) -> Tensor:
    """Scores of the items low..high-1, those masked or no number at minus infinity."""
    scores.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    inside = (mask.indices >= low) & (mask.indices < high)
    rows = torch.from_numpy(mask.row_of_each()[inside]).to(scores.device)
    columns = torch.from_numpy(mask.indices[inside].astype(np.int64) - low).to(scores.device)
    scores[rows, columns] = -torch.inf
    return scores


def _best_of_block(
    scores: Tensor, order: npt.NDArray[np.int64], low: int, k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The best k of a block (B, n) of scores, equal ones by order, and their items."""
    k = min(k, scores.shape[1])
    values, columns = scores.topk(k, dim=1)
    found, items = values.cpu().numpy(), columns.cpu().numpy() + low
    reach = (scores >= values[:, -1:]).sum(1).cpu().numpy()
    for row in np.flatnonzero(reach > k):  # equals at the edge: topk took any of them
        line = scores[row]
        all_of = torch.nonzero(line >= values[row, -1]).squeeze(1).cpu().numpy()
        own = line[torch.from_numpy(all_of).to(line.device)].cpu().numpy()
        best = np.lexsort((order[all_of + low], -own))[:k]
        found[row], items[row] = own[best], all_of[best] + low
    return found, items


def _levels(
    model: Model, state: Tensor, histories: Histories, items: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """(B, R, k) scores of every behaviour for each user's own items (B, k)."""
    met = np.unique(items)
    chosen = torch.from_numpy(met).to(state.device)
    scores = model.score_behaviors(state, histories, chosen).float().cpu().numpy()
    at = np.searchsorted(met, items)[:, None].repeat(scores.shape[1], 1)
    return np.take_along_axis(scores, at, 2)
