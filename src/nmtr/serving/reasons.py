"""Why: items like one item, and the items of a history that carry another's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from nmtr.serving.histories import Current, Items, stacked
from nmtr.serving.ranker import top_scores
from nmtr.serving.requests import Basis, Request
from nmtr.serving.rules import Rules

if TYPE_CHECKING:
    from nmtr.serving.service import Service

NOISE = 1e-5  # of a score; what falls by less may only be rounded otherwise
TRIED = 24  # items of a history that are taken out one by one, where each costs a fold-in


@dataclass(frozen=True)
class Similar:
    """Items like another, most alike first, with how alike they are.

    by: `likeness`, the model's own; `stranger`, the scores for who has met that item alone.
    """

    items: tuple[tuple[Any, float], ...]
    by: Literal["likeness", "stranger"]


@dataclass(frozen=True)
class Reason:
    """An item of the history, what the user did with it, and how far the score falls without."""

    item: Any
    behaviors: tuple[str, ...]
    drop: float


@dataclass(frozen=True)
class Explanation:
    """Where an item's score comes from.

    score: the target's, before any rule. behaviors: as in an answer's items, up the cascade.
    reasons: items of the history without which the score would be lower, the most telling first.
    """

    item: Any
    basis: Basis
    score: float
    behaviors: dict[str, float]
    calibrated: bool
    reasons: tuple[Reason, ...]


def similar(service: Service, item: object, k: int, rules: Rules) -> Similar:
    """The k items most like one; UnknownError for an item that the model does not know."""
    at = service.known(item)
    chosen = torch.tensor([at])
    with torch.inference_mode():
        found = service.model.alike(chosen)
    by: Literal["likeness", "stranger"] = "stranger" if found is None else "likeness"
    if found is None:
        found = _met_alone(service, at)
    blocked = np.append(service.filters.of(rules).blocked, np.int32(at))
    mask = stacked([blocked], service.data.n_items)
    scores = found.float().cpu().numpy()
    items, values = top_scores(scores, mask, service.ranker.order, min(k, service.data.n_items))
    known = items[0][items[0] >= 0]
    ids = service.ids(known)
    return Similar(tuple(zip(ids, values[0].tolist(), strict=False)), by)


def _met_alone(service: Service, item: int) -> torch.Tensor:
    """(1, N) the scores for a stranger whose history is one item, under every behaviour."""
    rows = (np.array([item], np.int32),) * len(service.behaviors)
    user = Current(-1, rows, True, 0, {}, (np.zeros(1, np.int64),) * len(rows))
    state, histories = service.states.of([user])
    with torch.inference_mode():
        return service.model.score(state, histories)


def explain(service: Service, request: Request, item: object, most: int) -> Explanation:
    """Which items of a user's history carry an item's score: each is taken out, and it is scored.

    UnknownError for an item that the model does not know.
    """
    at = service.known(item)
    user = service.ask(request).user
    basis = service.states.basis(user)
    (shown,), (score,) = _scored(service, user, [user.items], at)
    reasons: list[Reason] = []
    if basis != "popular" and (service.states.folding is not None or service.model.reads):
        tried = _likeliest(service, user.seen(), at)
        rows = [user.without(int(each)) for each in tried]
        drops = score - _scored(service, user, rows, at)[1] if rows else np.zeros(0)
        for place in np.argsort(-drops, kind="stable")[:most]:
            if drops[place] > NOISE * max(abs(float(score)), 1e-2):
                reasons.append(_reason(service, user, int(tried[place]), float(drops[place])))
    values = dict(zip(service.behaviors, shown.tolist(), strict=True))
    return Explanation(
        service.ids(np.array([at]))[0], basis, float(score), values,
        service.calibration is not None, tuple(reasons),
    )  # fmt: skip


def _scored(
    service: Service, user: Current, rows: list[tuple[Items, ...]], item: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(B, R) what is shown of an item, and (B,) its score, for a user under B histories."""
    states = service.states
    histories = states.histories(user, rows)
    with torch.inference_mode():
        state = states.under(user, rows)
        levels = service.model.score_behaviors(state, histories, torch.tensor([item]))
    found = levels.float().cpu().numpy()
    return service.shown(found, histories)[:, :, 0], found[:, -1, 0]


def _likeliest(service: Service, seen: Items, item: int) -> Items:
    """Items of a history that may matter: all, or those most like the item in question."""
    if service.model.reads or len(seen) <= TRIED:
        return seen
    with torch.inference_mode():
        alike = service.model.alike(torch.tensor([item]))
    if alike is None:
        return seen[:TRIED]
    order = np.argsort(-alike[0].cpu().numpy()[seen], kind="stable")
    return seen[order[:TRIED]]


def _reason(service: Service, user: Current, item: int, drop: float) -> Reason:
    did = [
        name for name, met in zip(service.behaviors, user.items, strict=True) if item in met
    ]  # fmt: skip
    return Reason(service.ids(np.array([item]))[0], tuple(did), drop)
