"""The serving core: who asks, and for what, to the best items that the rules allow.

Every way to recommend goes through `Service.rank`: one user, many, or a file of all.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from nmtr.data.interactions import Interactions
from nmtr.data.records import Histories, Records
from nmtr.errors import UnknownError
from nmtr.evaluation.calibration import Calibration
from nmtr.models.base import Model
from nmtr.serving.bundle import Bundle, BundledLog
from nmtr.serving.bundling import fingerprint
from nmtr.serving.filters import Filter, Filters
from nmtr.serving.histories import Current, Items, Ledger, stacked
from nmtr.serving.lookup import Lookup
from nmtr.serving.ranker import Ranker, top_scores
from nmtr.serving.reasons import Explanation, Similar, explain, similar
from nmtr.serving.requests import Answer, Basis, Event, Item, Request, Slice
from nmtr.serving.rules import Rules, diversify, still_held
from nmtr.serving.states import States
from nmtr.training.folder import Run

SAMPLED = 4096  # users by whom an index of candidates is laid out
POOL = 4  # candidates that diversity chooses from, for each item asked for
LEAST_POOL = 100


@dataclass(frozen=True)
class Ask:
    """A request, with its user's records looked up."""

    user: Current
    k: int
    slice: Slice
    rules: Rules
    now: int


@dataclass(frozen=True)
class Found:
    """What B users get, best first: items (B, k), -1 where there are less, and their scores (B, k).

    shown (B, R, k): per behaviour, probabilities, or scores where nothing is calibrated; NaN for
    popular items.
    """

    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    shown: npt.NDArray[np.float32]
    bases: list[Basis]


class Service:
    """A model, what users have done, and the rules' filters; answers in-process.

    Every record of the log counts: an item that the user has bought, test or not, does not come
    back but by the rules. Ties go in the order of a seeded hash of the item's id. trained_users:
    (M,) which users the model was trained on, if not all; the others are folded in. trained: the
    records that it was trained on, where the others are to be folded in. candidates: as Ranker has
    them.
    """

    def __init__(
        self,
        model: Model,
        data: Interactions | BundledLog,
        calibration: Calibration | None = None,
        *,
        trained_users: npt.NDArray[np.bool_] | None = None,
        catalogue: pl.DataFrame | None = None,
        target_time: npt.NDArray[np.int64] | None = None,
        counts: npt.NDArray[np.int64] | None = None,
        lookups: tuple[Lookup, Lookup] | None = None,
        trained: Records | None = None,
        negatives: tuple[int, ...] = (4,),
        candidates: int = 0,
        name: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.model, self.data, self.calibration = model, data, calibration
        self.catalogue = catalogue
        records = data.records(timed=model.timed)
        users, items = lookups or (
            Lookup(data.users, data.user_hash), Lookup(data.items, data.item_hash)
        )  # fmt: skip
        self.ledger = Ledger(records, users, items, target_time, trained)
        self.ranker = Ranker(
            model, data.item_hash, candidates=candidates,
            sample=records.histories(evenly(data.n_users, SAMPLED)) if candidates else None,
        )  # fmt: skip
        sold = records.target.column_counts() if counts is None else counts[-1]
        self.filters = Filters(items, catalogue, sold)
        self._popular = sold.astype(np.float32)
        self.states = States(model, self.ledger, self.ranker.stranger, trained_users, negatives)
        self._name = name

    @classmethod
    def of(cls, source: Run | Bundle, *, candidates: int = 0) -> Service:
        """Serve a run's model, or a bundle; candidates: as Ranker has them, 0 to rank all items."""
        by_records = source.model.trained and not source.model.describes
        trained = source.trained_users() if by_records else None
        how: dict[str, Any] = {"trained_users": trained, "candidates": candidates}
        how["negatives"] = source.settings.training.negatives
        how["name"] = lambda: fingerprint(source) if isinstance(source, Run) else source.fingerprint
        if isinstance(source, Bundle):
            how |= {"catalogue": source.catalogue, "target_time": source.target_time}
            how |= {"counts": source.counts(), "lookups": source.lookups()}
            how["trained"] = source.trained_records()
        return cls(source.model, source.data, source.calibration, **how)

    @cached_property
    def fingerprint(self) -> str:
        """What tells this model and data from others."""
        return self._name()

    @property
    def behaviors(self) -> tuple[str, ...]:
        return self.data.behaviors

    def stock(self, items: Sequence[object] | None) -> int:
        """Post what is in stock (None: everything); returns how many of the items are known."""
        return self.filters.stock(items)

    def recommend(self, request: Request) -> Answer:
        """The best items for one user or visitor."""
        return self.recommend_many([request])[0]

    def recommend_many(self, requests: Sequence[Request]) -> list[Answer]:
        """The same for several at once."""
        asks = [self.ask(each) for each in requests]
        found = self.rank(asks)
        return [self._answer(found, row, each) for row, each in enumerate(asks)]

    def similar(self, item: object, *, k: int = 10, rules: Rules | None = None) -> Similar:
        """The items most like one, of those that the rules' conditions, lists and stock allow."""
        return similar(self, item, k, rules or Rules())

    def explain(self, request: Request, item: object, *, most: int = 10) -> Explanation:
        """Which items of the history carry an item's score for a user, at most so many."""
        return explain(self, request, item, most)

    def user(self, user: object, events: Sequence[Event] = ()) -> dict[str, list[Any]]:
        """A user's items per behaviour, events counted."""
        found = self.ledger.current(user, tuple(events)).items
        return {name: self.ids(each) for name, each in zip(self.behaviors, found, strict=True)}

    def known(self, item: object) -> int:
        """The index of an item; UnknownError where the model does not know it."""
        at = self.ledger.items.index(item)
        if at < 0:
            raise UnknownError(f"item {item!r} is not among the {self.data.n_items:,} of the model")
        return at

    def ids(self, items: npt.NDArray[np.integer]) -> list[Any]:
        """Items' ids, as they came."""
        known = self.data.items.ids
        return [known[each] for each in items.tolist()]

    def ask(self, request: Request) -> Ask:
        """Look up a request's user; UsageError for a behaviour that the model does not know."""
        user = self.ledger.current(request.user, request.events)
        now = int(time.time() * 1000) if request.now is None else request.now
        return Ask(user, request.k, request.slice, request.rules, now)

    def rank(self, asks: Sequence[Ask]) -> Found:
        """What each gets, k the largest that is asked for."""
        bases = [self.states.basis(each.user) for each in asks]
        groups: dict[tuple[bool, float, int, bool], list[int]] = {}
        for row, each in enumerate(asks):
            popular = bases[row] == "popular"
            weight = 0.0 if popular else each.rules.popularity_penalty
            spread = each.rules.diversity > 0
            groups.setdefault((popular, weight, self._pool(each), spread), []).append(row)
        if len(groups) == 1 and not spread:
            found = self._alike(asks, popular, self._pool(asks[0]))
        else:
            found = self._nothing(len(asks), max((each.k for each in asks), default=1))
            for (popular, _, pool, _), rows in groups.items():
                chosen = [asks[row] for row in rows]
                self._fill(found, rows, chosen, self._alike(chosen, popular, pool))
        found = replace(found, bases=bases)
        for row, each in enumerate(asks):
            if each.slice != "all" and each.rules.fallback and found.items[row, 0] < 0:
                chosen = [replace(each, slice="all")]
                self._fill(found, [row], chosen, self._alike(chosen, True, self._pool(each)))
                found.bases[row] = "popular"
        return found

    def _pool(self, ask: Ask) -> int:
        """How many candidates are wanted before diversity chooses."""
        wanted = max(POOL * ask.k, LEAST_POOL) if ask.rules.diversity else ask.k
        return min(self.data.n_items, wanted)

    def _nothing(self, n: int, k: int) -> Found:
        k = min(k, self.data.n_items)
        return Found(
            np.full((n, k), -1, np.int64),
            np.full((n, k), -np.inf, np.float32),
            np.full((n, len(self.behaviors), k), np.nan, np.float32),
            [],
        )

    def _alike(self, asks: Sequence[Ask], popular: bool, pool: int) -> Found:
        """Candidates for those who share a pool, a penalty, and whether by the model."""
        filters = [self.filters.of(each.rules) for each in asks]
        blocked = [self._blocked(each, by) for each, by in zip(asks, filters, strict=True)]
        mask = stacked(blocked, self.data.n_items)
        if popular:
            found = self._nothing(len(asks), pool)
            scores = np.broadcast_to(self._popular, (len(asks), self.data.n_items))
            items, values = top_scores(scores, mask, self.ranker.order, pool)
            return replace(found, items=items, scores=values)
        state, histories = self.states.of([each.user for each in asks])
        ranked = self.ranker.best(state, histories, mask, pool, filters[0].shift)
        return Found(ranked.items, ranked.scores, self.shown(ranked.levels, histories), [])

    def _fill(self, found: Found, rows: list[int], asks: Sequence[Ask], of: Found) -> None:
        """Put the best of candidates into their users' rows."""
        for at, row in enumerate(rows):
            places = self._places(of, at, asks[at])
            n = len(places)
            found.items[row, :n] = of.items[at, places]
            found.scores[row, :n] = of.scores[at, places]
            found.shown[row, :, :n] = of.shown[at][:, places]

    def _places(self, found: Found, row: int, ask: Ask) -> npt.NDArray[np.int64]:
        """Which of a row's candidates are given, in order."""
        n = int(np.count_nonzero(found.items[row] >= 0))
        if not ask.rules.diversity:
            return np.arange(min(n, ask.k))
        items = found.items[row, :n]
        alike = self.filters.likeness(items, ask.rules.diversify_by, self.model)
        return diversify(found.scores[row, :n], alike, ask.k, ask.rules.diversity)

    def _blocked(self, ask: Ask, by: Filter) -> Items:
        """The items that one user does not get."""
        user, parts = ask.user, [by.blocked]
        exclude = ask.rules.exclude or ("nothing" if self.data.repurchase else "bought")
        bought = user.items[-1]
        if exclude == "seen":
            parts.append(user.seen())
        elif by.days is not None:
            last = self.ledger.last_bought(user, ask.now)
            parts.append(bought[still_held(by.days[bought], last, ask.now)])
        elif exclude == "bought":
            parts.append(bought)
        if ask.slice == "new":
            parts.append(user.seen())
        elif ask.slice == "in-funnel":
            others = np.ones(self.data.n_items, np.bool_)
            others[user.funnel()] = False
            parts.append(np.flatnonzero(others).astype(np.int32))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def shown(
        self, levels: npt.NDArray[np.float32], histories: Histories
    ) -> npt.NDArray[np.float32]:
        """Logits (B, R, X) of any X items as probabilities, where they are calibrated."""
        if self.calibration is None:
            return levels
        with torch.inference_mode():
            given = torch.from_numpy(levels)
            found: npt.NDArray[np.float32] = self.calibration.probabilities(
                given, histories
            ).numpy()
        return found

    def _answer(self, found: Found, row: int, ask: Ask) -> Answer:
        index = found.items[row]
        ids = self.ids(index[index >= 0])
        scores, basis = found.scores[row].tolist(), found.bases[row]
        if basis == "popular":
            behaviors: list[dict[str, float]] = [{} for _ in ids]
        else:
            shown = found.shown[row].T.tolist()
            behaviors = [dict(zip(self.behaviors, each, strict=True)) for each in shown]
        items = [Item(ids[n], n + 1, scores[n], behaviors[n]) for n in range(len(ids))]
        return Answer(tuple(items), basis, self.calibration is not None, ask.user.unknown)


def evenly(n: int, most: int) -> npt.NDArray[np.int64]:
    """At most so many of the numbers below n, as far apart as can be."""
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).astype(np.int64))
