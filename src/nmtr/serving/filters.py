"""Rules made ready to apply: what they block for everybody, computed once for equal rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from nmtr.errors import UsageError
from nmtr.models.base import Model
from nmtr.serving.cache import Cache
from nmtr.serving.histories import Items
from nmtr.serving.lookup import Lookup
from nmtr.serving.rules import Floats, Rules, attribute, penalty, permitted, windows

KEPT = 256  # different rules that are kept ready


@dataclass(frozen=True)
class Filter:
    """What rules say about items, whoever asks.

    blocked: items that nobody gets; shift: (N,) what is taken off scores, if anything; days: (N,)
    after how many days a bought item may come back, where there are such windows.
    """

    blocked: Items
    shift: Floats | None
    days: Floats | None


class Posted(NamedTuple):
    """A stock: what tells it from others, and (N,) which items are in it, or None for all."""

    name: str
    items: npt.NDArray[np.bool_] | None


class Filters:
    """Makes filters of rules.

    sold: (N,) users with a target record of each item.
    """

    def __init__(
        self, items: Lookup, catalogue: pl.DataFrame | None, sold: npt.NDArray[np.int64]
    ) -> None:
        self.items, self.catalogue, self.sold = items, catalogue, sold
        self._posted = Posted("everything", None)
        self._ready: Cache[Filter] = Cache(KEPT)
        self._kinds: Cache[npt.NDArray[np.int64]] = Cache(KEPT)

    @property
    def stocked(self) -> str:
        """Tells one stock from another."""
        return self._posted.name

    def stock(self, items: Sequence[object] | None) -> int:
        """Post what is in stock (None: everything); returns how many of the items are known."""
        found = None
        if items is not None:
            found = np.zeros(len(self.sold), np.bool_)
            index = self.items.vocabulary.indices(items)
            found[index[index >= 0]] = True
        name = "everything" if found is None else sha256(found.tobytes()).hexdigest()
        self._posted = Posted(name, found)
        self._ready.clear()
        return len(self.sold) if found is None else int(found.sum())

    def of(self, rules: Rules) -> Filter:
        """The filter of rules; UsageError for an attribute that the catalogue lacks."""
        posted = self._posted  # another thread may post while a filter is made
        key = posted.name, rules
        found = self._ready.get(key)
        if found is None:
            found = self._make(rules, posted.items)
            self._ready.put(key, found)
        return found

    def _make(self, rules: Rules, stock: npt.NDArray[np.bool_] | None) -> Filter:
        n = len(self.sold)
        allowed = permitted(rules, self.catalogue, n)
        if rules.in_stock and stock is not None:
            allowed &= stock
        given = [self.items.index(each) for each in rules.exclude_items]
        allowed[[each for each in given if each >= 0]] = False
        days = None
        if rules.repurchase_days:
            else_ = 0.0 if rules.exclude == "nothing" else math.inf
            days = windows(rules, self.catalogue, n, else_=else_)
        weight = rules.popularity_penalty
        shift = penalty(self.sold, weight) if weight else None
        return Filter(np.flatnonzero(~allowed).astype(np.int32), shift, days)

    def likeness(self, items: npt.NDArray[np.int64], by: str, model: Model) -> Floats:
        """(C, C) how alike candidates are, at most 1: of one value in a column, or to the model."""
        if by == "likeness":
            return _of_model(model, items)
        kinds = self._column(by)[items]
        alike: Floats = ((kinds[:, None] == kinds) & (kinds >= 0)[:, None]).astype(np.float32)
        return alike

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        """(N,) a number for each value of a column, -1 where it is not known."""
        found = self._kinds.get(name)
        if found is None:
            values = attribute(self.catalogue, name)
            places = values.rank("dense").cast(pl.Int64)
            found = (places.fill_null(0) - 1).to_numpy(writable=True)
            self._kinds.put(name, found)
        return found


def _of_model(model: Model, items: npt.NDArray[np.int64]) -> Floats:
    """(C, C) the model's likenesses, brought to at most 1."""
    with torch.inference_mode():
        found = model.alike(torch.from_numpy(items))
    if found is None:
        raise UsageError(
            "diversify_by: this model does not know how alike items are; give a column instead"
        )
    rows: Floats = found.cpu().numpy()[:, items]
    highest = np.abs(rows).max(initial=0)
    return rows / highest if highest > 1 else rows
