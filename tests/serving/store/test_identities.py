"""A visitor who logs in brings what they did; somebody else's visitor stays somebody else's."""

from __future__ import annotations

import polars as pl
import pytest

from nmtr.errors import DataError
from nmtr.serving.store import ErasedError, Event, IdentityConflictError, Store


def view(item: str, **who: str) -> Event:
    return Event(item_id=item, behavior="view", **who)  # type: ignore[arg-type]


def items(store: Store, *, after: int = 0, **who: str) -> list[str]:
    return [each.item_id for each in store.history(after=after, **who)]  # type: ignore[arg-type]


def test_a_visitor_s_events_before_and_after_the_log_in_are_the_user_s(store: Store) -> None:
    store.append([view("a", visitor_id="v"), view("b", user_id="alice"), view("x", user_id="bob")])
    assert items(store, user_id="alice") == ["b"]
    assert store.owner("v") is None
    assert store.merge(visitor_id="v", user_id="alice") == "merged"
    store.append([view("c", visitor_id="v"), view("d", user_id="alice")])
    assert store.owner("v") == "alice"
    assert items(store, user_id="alice") == ["a", "b", "c", "d"]
    assert items(store, visitor_id="v") == ["a", "c"], "a cookie alone does not show a user"
    frame = pl.concat(store.frames())
    assert frame["user_id"].to_list() == ["alice", "alice", "bob", "alice", "alice"]
    assert frame["visitor_id"].to_list() == ["v", None, None, "v", None]


def test_a_user_has_many_visitors_and_a_repeat_changes_nothing(store: Store) -> None:
    store.append([view("a", visitor_id="v"), view("b", visitor_id="w"), view("c", user_id="w")])
    assert store.merge(visitor_id="v", user_id="alice") == "merged"
    assert store.merge(visitor_id="w", user_id="alice") == "merged"
    assert store.merge(visitor_id="v", user_id="alice") == "unchanged"
    assert items(store, user_id="alice") == ["a", "b"]
    assert items(store, user_id="alice", after=1) == ["a", "b"]


def test_a_visitor_named_like_a_user_makes_no_chain(store: Store) -> None:
    store.append([view("a", visitor_id="v"), view("b", visitor_id="alice"), view("c", user_id="v")])
    store.merge(visitor_id="v", user_id="alice")
    store.merge(visitor_id="alice", user_id="v")
    assert items(store, user_id="alice") == ["a"]
    assert items(store, user_id="v") == ["b", "c"]


def test_the_first_user_of_a_visitor_stays(store: Store) -> None:
    store.append([view("a", visitor_id="v")])
    store.merge(visitor_id="v", user_id="alice")
    with pytest.raises(IdentityConflictError, match="already belongs to another user"):
        store.merge(visitor_id="v", user_id="bob")
    assert store.owner("v") == "alice"
    assert items(store, user_id="bob") == []


def test_one_who_was_merged_after_the_watermark_comes_whole(store: Store) -> None:
    """A model made at the watermark knew the visitor as another person."""
    store.append([view("a", visitor_id="old"), view("b", visitor_id="new")])
    store.merge(visitor_id="old", user_id="alice")
    store.append([view("c", user_id="alice")])
    mark = store.last_seq()
    store.append([view("d", user_id="alice")])
    assert items(store, user_id="alice", after=mark) == ["d"]
    store.merge(visitor_id="new", user_id="alice")
    assert items(store, user_id="alice", after=mark) == ["b", "d"]


def test_a_merge_is_before_or_after_a_watermark_though_no_event_is_between(store: Store) -> None:
    store.append([view("a", visitor_id="before"), view("b", visitor_id="after")])
    store.merge(visitor_id="before", user_id="alice")
    mark = store.last_seq()
    assert items(store, user_id="alice", after=mark) == []
    store.merge(visitor_id="after", user_id="alice")
    assert items(store, user_id="alice", after=mark) == ["b"]
    store.append([view("c", user_id="alice")])
    assert items(store, user_id="alice", after=mark) == ["b", "c"]
    assert [each["item_id"].to_list() for each in store.frames(after=mark)] == [["c"]]


def test_a_merge_counts_as_late_though_the_last_events_were_erased(store: Store) -> None:
    store.append([view("a", visitor_id="v"), view("b", user_id="bob")])
    mark = store.last_seq()
    store.erase("bob")
    assert store.last_seq() == mark
    store.merge(visitor_id="v", user_id="alice")
    assert items(store, user_id="alice", after=mark) == ["a"]


def test_nobody_is_merged_into_or_from_the_erased(store: Store) -> None:
    store.merge(visitor_id="v", user_id="alice")
    store.erase("alice")
    with pytest.raises(ErasedError, match="the user was erased"):
        store.merge(visitor_id="w", user_id="alice")
    with pytest.raises(ErasedError, match="the visitor was erased"):
        store.merge(visitor_id="v", user_id="bob")


def test_ids_are_checked(store: Store) -> None:
    with pytest.raises(DataError, match="visitor_id: expected 1 to 256"):
        store.merge(visitor_id="", user_id="alice")


def test_who_did_anything_is_known_for_many_at_once(store: Store) -> None:
    store.append([
        Event("a", "view", "ann"), Event("b", "view", visitor_id="v"),
        Event("b", "view", visitor_id="w"),
    ])  # fmt: skip
    store.merge(visitor_id="v", user_id="bob")
    found = store.active(users=["ann", "bob", "cid", "v"], visitors=["v", "w", "ann"])
    assert found == ({"ann", "bob"}, {"v", "w"})
    assert store.active() == (set(), set())
    many = [f"user-{n}" for n in range(2500)]
    assert store.active(users=[*many, "ann"]) == ({"ann"}, set())
