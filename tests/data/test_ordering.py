"""The order of behaviours follows from how rare they are and how they nest."""

import polars as pl
import pytest

from nmtr.data.ordering import nesting, propose_order
from nmtr.errors import DataError


def log(pairs: dict[str, range], *, undo: bool = False) -> pl.DataFrame:
    """User 0 with one event per item of each behaviour's range."""
    rows = [(0, item, name, undo) for name, items in pairs.items() for item in items]
    schema = {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "behavior": pl.String,
        "undo": pl.Boolean,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_the_rarest_behaviour_is_the_target() -> None:
    proposal = propose_order(log({"buy": range(40), "view": range(400), "cart": range(120)}))
    assert proposal.behaviors == ("view", "cart", "buy")
    assert proposal.sure
    assert any("3.3 times" in why and "100%" in why for why in proposal.why)


def test_nesting_decides_between_volumes_that_are_close() -> None:
    nested = propose_order(log({"cart": range(100), "buy": range(70)}))
    assert nested.behaviors == ("cart", "buy")
    assert nested.sure
    apart = propose_order(log({"cart": range(100), "buy": range(200, 270)}))
    assert not apart.sure
    assert any("too alike" in why for why in apart.why)


def test_equal_sets_are_nested_both_ways_and_tell_no_order() -> None:
    assert not propose_order(log({"cart": range(100), "buy": range(100)})).sure


def test_a_handful_of_events_tells_nothing() -> None:
    proposal = propose_order(log({"view": range(400), "buy": range(3)}))
    assert not proposal.sure
    assert any("too few" in why for why in proposal.why)


def test_nesting_counts_pairs_once() -> None:
    events = pl.concat([log({"cart": range(10), "buy": range(5, 15)})] * 3)
    assert nesting(events, "cart", "buy") == 0.5
    assert nesting(events, "cart", "gone") == 0.0


def test_one_behaviour_leaves_nothing_to_order() -> None:
    proposal = propose_order(log({"buy": range(3)}))
    assert proposal.behaviors == ("buy",)
    assert not proposal.sure


@pytest.mark.parametrize("name", ["remove_from_cart", "cart-remove", "Return", "unlike", "cancel"])
def test_a_name_that_undoes_makes_it_unsure(name: str) -> None:
    proposal = propose_order(log({"cart": range(30), name: range(4)}))
    assert not proposal.sure
    assert any(name in why and "--undo" in why for why in proposal.why)


def test_undo_events_are_no_evidence() -> None:
    events = pl.concat(
        [log({"view": range(9), "buy": range(3)}), log({"buy": range(50)}, undo=True)]
    )
    assert propose_order(events).behaviors == ("view", "buy")
    with pytest.raises(DataError, match="no undo"):
        propose_order(log({"buy": range(3)}, undo=True))
