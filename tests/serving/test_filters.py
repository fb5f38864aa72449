"""Filters are of the stock that is posted, also where it changes while one is made."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nmtr.data.vocabulary import Vocabulary, hash_ids
from nmtr.serving.filters import Filters
from nmtr.serving.lookup import Lookup
from nmtr.serving.rules import Rules, permitted


def made() -> Filters:
    ids = pl.Series(["cup", "pot", "pan"])
    return Filters(Lookup(Vocabulary(ids), hash_ids(ids)), None, np.array([3, 2, 1]))


def test_what_is_blocked_follows_the_stock() -> None:
    found = made()
    names = [found.stocked]
    assert found.of(Rules()).blocked.tolist() == []
    for listed, blocked in ((["cup", "pan"], [1]), (["pot"], [0, 2]), ([], [0, 1, 2]), (None, [])):
        found.stock(listed)
        names.append(found.stocked)
        assert found.of(Rules()).blocked.tolist() == blocked
        assert found.of(Rules(in_stock=False)).blocked.tolist() == []
    assert names[0] == names[-1]
    assert len(set(names)) == 4


def test_a_filter_that_was_made_while_the_stock_changed_is_not_kept_for_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, place = made(), "nmtr.serving.filters.permitted"

    def sold_out_meanwhile(rules: Rules, catalogue: pl.DataFrame | None, n: int) -> object:
        monkeypatch.setattr(place, permitted)
        found.stock(["cup"])
        return permitted(rules, catalogue, n)

    found.stock(["cup", "pot"])
    monkeypatch.setattr(place, sold_out_meanwhile)
    found.of(Rules())
    assert found.of(Rules()).blocked.tolist() == [1, 2]
