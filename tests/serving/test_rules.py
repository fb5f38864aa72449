"""Rules: what they block, how they reorder, and what is wrong with those that are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmtr.errors import UsageError
from nmtr.serving.rules import (
    DAY,
    Condition,
    Rules,
    diversify,
    meets,
    penalty,
    permitted,
    still_held,
    windows,
)

SHOP = pl.DataFrame(
    {
        "brand": ["a", "b", None, "a", "c"],
        "price": [1.0, 2.5, 4.0, None, 9.0],
        "size": [1, 2, 3, 2, None],
        "sale": [True, False, None, True, False],
    }
)


def found(condition: Condition) -> list[int]:
    return np.flatnonzero(meets(condition, SHOP)).tolist()


@pytest.mark.parametrize(
    ("condition", "items"),
    [
        (Condition("brand", ("a",)), [0, 3]),
        (Condition("brand", ("b", "c", "x")), [1, 4]),
        (Condition("size", (2,)), [1, 3]),
        (Condition("size", ("2",)), [1, 3]),
        (Condition("size", (2.0,)), [1, 3]),
        (Condition("size", (2.5,)), []),
        (Condition("price", (4,)), [2]),
        (Condition("price", (2.5,)), [1]),
        (Condition("sale", (True,)), [0, 3]),
        (Condition("sale", (1,)), []),
        (Condition("price", low=2.5), [1, 2, 4]),
        (Condition("price", high=2.5), [0, 1]),
        (Condition("price", low=2, high=4), [1, 2]),
        (Condition("size", low=2, high=2), [1, 3]),
    ],
)
def test_a_condition_is_met_by_value_or_range_and_never_by_what_is_not_known(
    condition: Condition, items: list[int]
) -> None:
    assert found(condition) == items


CONDITIONS = st.sampled_from(
    [
        Condition("brand", ("a",)), Condition("brand", ("b", "c")), Condition("price", low=2.0),
        Condition("size", (2, 3)), Condition("price", low=1.0, high=4.0),
    ]
)  # fmt: skip


@given(allow=st.lists(CONDITIONS, max_size=3), deny=st.lists(CONDITIONS, max_size=3))
def test_what_is_permitted_meets_all_of_allow_and_none_of_deny(
    allow: list[Condition], deny: list[Condition]
) -> None:
    rules = Rules(allow=tuple(allow), deny=tuple(deny))
    mask = permitted(rules, SHOP, SHOP.height)
    for item in range(SHOP.height):
        fits = all(meets(each, SHOP)[item] for each in allow)
        wrong = any(meets(each, SHOP)[item] for each in deny)
        assert mask[item] == (fits and not wrong)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            Condition("colour", ("red",)),
            "no column 'colour'; it has brand, price",
        ),
        (Condition("prise", low=1), "no column 'prise'"),
        (Condition("brand", low=1), "'brand' holds String, not numbers"),
    ],
)
def test_a_condition_that_the_catalogue_cannot_tell_is_refused(
    condition: Condition, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        meets(condition, SHOP)
    with pytest.raises(UsageError, match="bundle it with --items"):
        meets(condition, None)


def test_windows_are_the_category_s_or_the_others_or_the_rule_s() -> None:
    rules = Rules(repurchase_days=(("a", 30.0), ("c", 0.0)), category="brand")
    assert windows(rules, SHOP, 5, else_=math.inf).tolist() == [30, math.inf, math.inf, 30, 0]
    rules = Rules(repurchase_days=(("a", 30.0), ("*", 7.0)), category="brand")
    assert windows(rules, SHOP, 5, else_=math.inf).tolist() == [30, 7, 7, 30, 7]
    only = Rules(repurchase_days=(("*", 7.0),))
    assert windows(only, None, 2, else_=0).tolist() == [7, 7], "needs no catalogue"


def test_a_purchase_is_held_until_its_window_has_passed() -> None:
    now = 1_000 * DAY
    bought = now - np.array([29, 30, 31, 0, 5000]) * DAY
    days = np.array([30, 30, 30, 0, math.inf], np.float32)
    assert still_held(days, bought, now).tolist() == [True, False, False, False, True]


def test_the_penalty_is_the_logarithm_of_the_count() -> None:
    assert penalty(np.array([0, 1, 99]), 0.5) == pytest.approx(
        [0, 0.5 * math.log(2), 0.5 * math.log(100)]
    )


def test_diversity_takes_the_best_then_what_is_unlike_it() -> None:
    scores = np.array([3.0, 2.9, 2.8, 1.0], np.float32)
    kinds = np.array([0, 0, 1, 1])
    alike = (kinds[:, None] == kinds).astype(np.float32)
    assert diversify(scores, alike, 4, 0.0).tolist() == [0, 1, 2, 3]
    # .5 rel - .5 like: item 2 has .45, item 1 has .475 - .5.
    assert diversify(scores, alike, 4, 0.5).tolist() == [0, 2, 1, 3]
    assert diversify(scores[:0], alike[:0, :0], 4, 0.5).tolist() == []


@given(
    scores=st.lists(st.floats(-5, 5, width=32), max_size=12), k=st.integers(1, 15),
    weight=st.floats(0, 0.99), seed=st.integers(0, 9),
)  # fmt: skip
def test_diversity_chooses_k_different_candidates_and_the_best_first(
    scores: list[float], k: int, weight: float, seed: int
) -> None:
    kinds = np.random.default_rng(seed).integers(0, 3, len(scores))
    alike = (kinds[:, None] == kinds).astype(np.float32)
    given_ = np.array(scores, np.float32)
    chosen = diversify(given_, alike, k, weight).tolist()
    assert len(chosen) == len(set(chosen)) == min(k, len(scores))
    if chosen:
        assert given_[chosen[0]] == pytest.approx(given_.max(), abs=1e-5)  # as scaled to 0..1
        if len(set(kinds[chosen])) < len(set(kinds)) and weight > 0.9:
            assert len(set(kinds[chosen])) == min(k, len(scores)), "a kind was left out for another"


def test_rules_come_from_json() -> None:
    found = Rules.from_json(
        {
            "exclude": "bought",
            "exclude_items": [7, "x"],
            "repurchase_days": {"food": 30, "*": 365},
            "allow": [{"column": "brand", "in": ["a", 2]}],
            "deny": [{"column": "price", "from": 5, "to": 20}],
            "in_stock": False,
            "diversity": 0.3,
            "diversify_by": "likeness",
            "popularity_penalty": 1,
            "fallback": False,
            "category": "kind",
        }
    )
    assert found == Rules(
        exclude="bought", exclude_items=(7, "x"), repurchase_days=(("food", 30.0), ("*", 365.0)),
        allow=(Condition("brand", ("a", "2")),), deny=(Condition("price", low=5, high=20),),
        in_stock=False, diversity=0.3, diversify_by="likeness", popularity_penalty=1,
        fallback=False, category="kind",
    )  # fmt: skip
    assert Rules.from_json({}) == Rules()


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"exlude": "seen"}, "rules has no option 'exlude'; did you mean 'exclude'"),
        ({"exclude": "viewed"}, "exclude: expected one of bought, seen, nothing, got 'viewed'"),
        ({"exclude_items": "7"}, "exclude_items: expected a list"),
        ({"exclude_items": [[7]]}, "exclude_items: expected a list of texts or numbers"),
        ({"exclude_items": [None]}, "exclude_items: expected a list of texts or numbers"),
        ({"diversity": 1}, "0 <= diversity < 1, got 1"),
        ({"diversity": "much"}, "diversity: expected a number, got 'much'"),
        ({"diversity": math.nan}, "0 <= diversity < 1"),
        ({"popularity_penalty": -1}, "popularity_penalty: expected 0 or more"),
        ({"popularity_penalty": True}, "popularity_penalty: expected a number"),
        ({"in_stock": "yes"}, "in_stock: expected true or false, got 'yes'"),
        ({"category": 3}, "category: expected a text"),
        ({"repurchase_days": [30]}, "repurchase_days: expected days by category"),
        ({"repurchase_days": {"a": "x"}}, "repurchase_days: expected days by category"),
        ({"repurchase_days": {"a": -1}}, "repurchase_days: expected 0 or more"),
        ({"repurchase_days": {"a": 1}, "exclude": "seen"}, "use exclude=bought"),
        ({"allow": {"column": "a"}}, "allow: expected a list of conditions"),
        ({"allow": ["a"]}, "expected a condition such as"),
        ({"allow": [{"column": "a"}]}, "either values or a low or high bound"),
        ({"deny": [{"in": ["a"]}]}, "column"),
        ({"deny": [{"column": "a", "in": []}]}, "either values or a low or high bound"),
        ({"deny": [{"column": "a", "in": ["x"], "from": 1}]}, "either values or a low"),
        ({"deny": [{"column": "a", "from": 2, "to": 1}]}, "expected low <= high"),
        ({"deny": [{"column": "a", "from": "2"}]}, "bounds: expected numbers, got '2'"),
        ({"deny": [{"column": "a", "form": 2}]}, "did you mean 'from'"),
        ({"deny": [{"column": 7, "from": 2}]}, "column"),
        ([], "rules: expected names and values"),
    ],
)
def test_wrong_rules_are_refused_with_what_came(given_: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Rules.from_json(given_)
