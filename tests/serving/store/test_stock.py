"""What is in stock: everything until a list says otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmtr.errors import DataError, UsageError
from nmtr.serving.store import Store

ITEMS = st.sets(st.sampled_from("abcdef"))


def test_without_a_list_everything_is_in_stock(store: Store) -> None:
    assert store.stock() == (0, None)
    with pytest.raises(UsageError, match="no stock list"):
        store.patch_stock(add=["a"])


def test_a_list_is_replaced_patched_and_dropped(store: Store) -> None:
    assert store.replace_stock(["a", "b", "b"]) == 1
    assert store.patch_stock(add=["c", "a"], remove=["b", "z"]) == 2
    assert store.stock() == (2, frozenset("ac"))
    assert store.patch_stock(add=["b"], remove=["b"]) == 3
    assert store.stock().items == frozenset("abc")
    assert store.replace_stock([]) == 4
    assert store.stock() == (4, frozenset()), "an empty list: nothing is in stock"
    assert store.drop_stock() == 5
    assert store.stock() == (5, None)
    assert store.stock_version() == 5


def test_a_bad_item_leaves_the_list_as_it_was(store: Store) -> None:
    store.replace_stock(["a"])
    with pytest.raises(DataError, match="item_id"):
        store.replace_stock(["b", ""])
    assert store.stock() == (1, frozenset("a"))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(whole=ITEMS, add=ITEMS, remove=ITEMS)
def test_a_patch_is_what_sets_say(
    store: Store, whole: set[str], add: set[str], remove: set[str]
) -> None:
    store.replace_stock(whole)
    store.patch_stock(add=add, remove=remove)
    assert store.stock().items == frozenset((whole - remove) | add)


def test_a_long_list_is_taken_and_seen_by_another_server(
    place: str, open_store: Callable[..., Store]
) -> None:
    one, other = open_store(place), open_store(place)
    items = [str(each) for each in range(5000)]
    one.replace_stock(items)
    assert other.stock_version() == 1
    other.replace_stock(items[:4000])
    assert one.stock() == (2, frozenset(items[:4000]))
