"""An audit finds what was planted."""

import io
import json
import time as clock
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from nmtr.data.audit import Audit, audit, render, sparsity_groups
from nmtr.data.auditing.figures import HeldOutFigures, IdOrder, Marginal, Shift, Skipped, Times
from nmtr.data.auditing.holdout import ranks
from nmtr.data.events import ReadOptions, from_frame
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR

FUNNEL = ("view", "cart", "buy")
MAY = 1_714_521_600  # 2024-05-01T00:00:00Z
HOUR = 3600

Row = tuple[int | str, int | str, str] | tuple[int | str, int | str, str, int]
Prepare = Callable[..., Interactions]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Rows of (user, item, behaviour, time?) and held-out (user, item) pairs as a data set."""

    def make(
        rows: list[Row],
        *,
        behaviors: tuple[str, ...] = FUNNEL,
        held: list[tuple[int | str, int | str]] | None = None,
        holdout: str = "random",
        options: ReadOptions | None = None,
    ) -> Interactions:
        names = ["user_id", "item_id", "behavior", "timestamp"][: len(rows[0])]
        log = from_frame(pl.DataFrame(rows, schema=names, orient="row"), options)
        if held is not None:
            holdout = str(tmp_path / "test.parquet")
            kept = pl.DataFrame(held, schema=names[:2], orient="row")
            kept.with_columns(behavior=pl.lit(behaviors[-1])).write_parquet(holdout)
        return prepare(log, behaviors=behaviors, holdout=holdout, options=options)

    return make


def bought(user: int, item: int) -> list[Row]:
    """A purchase as on a nested log: seen, carted and bought."""
    return [(user, item, behavior) for behavior in FUNNEL]


def shown(found: Audit) -> str:
    json.dumps(found.to_json(), allow_nan=False)
    text = io.StringIO()
    Console(width=200, file=text).print(render(found))
    return text.getvalue()


def said(found: Audit, start: str) -> str:
    """The one verdict that begins so."""
    (sentence,) = [each for each in found.verdicts if each.startswith(start)]
    return sentence


def silent(found: Audit, word: str) -> bool:
    return not any(word in each for each in found.verdicts)


LEAKY: list[Row] = [
    *(row for user in range(4) for item in (0, 1) for row in bought(user, 10 * user + item)),
    (0, 50, "view"),
    (0, 50, "cart"),
    (1, 51, "view"),
]
LEAKY_HELD = [(0, 50), (1, 51), (2, 52), (3, 0)]


class TestFunnel:
    def test_volumes_count_pairs_and_density(self, prepared: Prepare) -> None:
        found = audit(prepared(LEAKY, held=LEAKY_HELD))
        assert (found.users, found.items) == (4, 11)  # item 52 is only in the hold-out file
        assert [each.pairs for each in found.volumes] == [10, 9, 8]
        assert found.volumes[-1].density == pytest.approx(8 / 44)

    def test_nesting_is_the_share_of_the_higher_behaviour_in_the_lower(
        self, prepared: Prepare
    ) -> None:
        rows: list[Row] = [*LEAKY, (3, 70, "buy"), (3, 71, "buy"), (3, 71, "cart")]
        found = audit(prepared(rows, held=LEAKY_HELD))
        assert found.nesting == {
            "cart": {"view": 9 / 10},
            "buy": {"view": 8 / 10, "cart": 9 / 10},
        }
        assert said(found, "Not fully nested").endswith(
            "80.0 % of buy in view, 90.0 % of buy in cart."
        )
        full = audit(prepared(LEAKY, held=LEAKY_HELD))
        assert "every buy pair is also in view and cart" in said(full, "Fully nested")

    def test_planted_leak_is_found_per_behaviour_and_slice(self, prepared: Prepare) -> None:
        found = audit(prepared(LEAKY, held=LEAKY_HELD))
        held = found.held_out
        assert isinstance(held, HeldOutFigures)
        assert held.held_out_in == {"view": 0.5, "cart": 0.25}
        assert held.trained_in == {"view": 1.0, "cart": 1.0}
        assert held.slices == {"all": 4, "in-funnel": 2, "in view": 2, "in cart": 1, "new": 2}
        assert (held.cold_items, held.cold_users, held.in_target) == (0.25, 0.0, 0)
        assert "50.0 % of the held-out buy pairs are in the user's own view" in found.verdicts[0]
        assert "only 2 pairs (50.0 %) are new" in found.verdicts[0]
        assert "25.0 % of the held-out ones" in said(found, "100.0 % of the training")
        assert found.protocol == "discovery"
        assert "2 held-out pairs (50.0 %)" in found.why

    def test_held_out_pair_in_the_log_is_told_and_not_trained_on(self, prepared: Prepare) -> None:
        found = audit(prepared(LEAKY, held=[(0, 0), (1, 51)]))
        assert isinstance(found.held_out, HeldOutFigures)
        assert found.held_out.in_target == 1
        assert said(found, "Held-out pairs that the log holds as buy records too: 1;")

    def test_random_hold_out_of_a_nested_log_leaves_nothing_new(self, prepared: Prepare) -> None:
        found = audit(prepared(LEAKY))
        assert isinstance(found.held_out, HeldOutFigures)
        assert found.held_out.held_out_in == {"view": 1.0, "cart": 1.0}
        assert "new" not in found.held_out.slices
        assert (found.protocol, "diagnostic" in found.why) == ("leak-free", True)

    def test_removed_records_are_told_as_sure_negatives(self, prepared: Prepare) -> None:
        found = audit(prepared(LEAKY[:24], held=[(0, 50), (1, 51)]))
        assert found.verdicts[0].startswith("No held-out buy pair has an auxiliary record")
        assert "the other cart items are sure negatives" in found.verdicts[1]


class TestIds:
    def test_planted_order_is_found_against_chance(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, item, "buy") for u in range(60) for item in (u, u + 1, u + 2)]
        rows += [(u, 500, "cart") for u in range(40)]
        held = [(u, 500 if u < 40 else u + 1 - 60) for u in range(60)]
        found = audit(prepared(rows, held=held, behaviors=("cart", "buy")))
        ids = found.id_order
        assert isinstance(ids, IdOrder)
        assert ids.users == {"all": 60, "in-funnel": 40, "new": 20}
        assert ids.above == {"all": pytest.approx(2 / 3), "in-funnel": 1.0, "new": 0.0}
        assert ids.below == {"all": pytest.approx(1 / 3), "in-funnel": 0.0, "new": 1.0}
        assert ids.chance["all"] == pytest.approx(1 / 4)
        assert "66.7 % of the users, by chance 25.0 %" in said(found, "Item ids leak")

    def test_ids_are_compared_not_the_order_of_appearance(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, item, "buy") for u in range(30) for item in (900, 800, 100)]
        held: list[tuple[int | str, int | str]] = [(u, 500) for u in range(30)]
        found = audit(prepared(rows, held=held, behaviors=("buy",)))
        assert isinstance(found.id_order, IdOrder)
        assert found.id_order.above == found.id_order.below == {"all": 0.0}
        assert silent(found, "ids leak")

    def test_text_ids_have_no_order(self, prepared: Prepare) -> None:
        rows: list[Row] = [("u", name, "buy") for name in "abc"]
        found = audit(prepared(rows, behaviors=("buy",)))
        assert isinstance(found.id_order, Skipped)
        assert "ids are text" in shown(found)

    def test_user_with_many_held_out_pairs_counts_once(self, prepared: Prepare) -> None:
        rows: list[Row] = [(0, 1, "buy"), (1, 50, "buy")]
        held: list[tuple[int | str, int | str]] = [(0, item) for item in range(2, 11)]
        found = audit(prepared(rows, held=[*held, (1, 2)], behaviors=("buy",)))
        assert isinstance(found.id_order, IdOrder)
        assert found.id_order.above == {"all": 0.5}


class TestTotals:
    def test_rank_is_that_of_the_dense_matrix_with_ties_against(self) -> None:
        rng = np.random.default_rng(0)
        score = rng.integers(0, 5, 40)
        seen = rng.random((25, 40)) < 0.3
        row, item = np.nonzero(~seen)
        users, items = np.nonzero(seen)
        found = ranks(score, CSR.from_pairs(users, items, 25, 40), rows=row, items=item)
        better = (score[None, :] >= score[item][:, None]) & ~seen[row]
        np.testing.assert_array_equal(found, better.sum(1))

    def test_hole_left_by_held_out_pairs_is_found(self, prepared: Prepare) -> None:
        # 15 items are bought by many; 5 lie in carts only, and are what is held out.
        rows = [row for u in range(60) for i in range(3) for row in bought(u, (u + 5 * i) % 15)]
        rows += [(u, 15 + k, "cart") for u in range(60) for k in (u % 5, (u + 1) % 5)]
        held: list[tuple[int | str, int | str]] = [(u, 15 + u % 5) for u in range(60)]
        rows += [(999, item, "view") for item in range(20)]
        found = audit(prepared(rows, held=held))
        totals = found.marginal
        assert isinstance(totals, Marginal)
        assert (totals.below, totals.cutoff) == ("cart", 2)
        assert totals.by_popularity == {"all": 0, "in-funnel": 0, "in cart": 0}
        # Each of the five has 12 carts more than buys left; one is masked, four tie: rank 4.
        assert totals.by_totals["all"] == 0
        rows += [(100 + u, 15 + k, "cart") for k in range(2) for u in range(9 - k)]
        found = audit(prepared(rows, held=held))
        assert isinstance(found.marginal, Marginal)
        # Now 15 stands before 16, and both before the three that tie: users of 15 and 16 hit.
        assert found.marginal.by_totals["all"] == pytest.approx(2 / 5)
        assert "in-funnel: 0.400 against 0.000" in said(found, "Item totals leak")

    def test_popularity_shift_is_measured_against_a_draw_from_training(
        self, prepared: Prepare
    ) -> None:
        rows: list[Row] = [(u, (u + k) % 20, "buy") for u in range(200) for k in (0, 7)]
        rows += [(u, 20, "buy") for u in range(200, 204)]
        held: list[tuple[int | str, int | str]] = [(u, 20 if u % 2 else 21) for u in range(200)]
        found = audit(prepared(rows, held=held, behaviors=("buy",)))
        moved = found.shift
        assert isinstance(moved, Shift)
        assert (moved.top, moved.held_out) == (2, 1.0)
        assert moved.train_same == pytest.approx(4 / 404)
        assert moved.train_top == pytest.approx(40 / 404)
        assert moved.drawn < 0.2
        assert moved.drawn_train_same == pytest.approx(40 / 404)
        assert "make 100.0 % of the held-out buy pairs but 1.0 %" in said(
            found, "Popularity shifted"
        )

    def test_random_hold_out_is_no_shift(self, prepared: Prepare) -> None:
        rng = np.random.default_rng(1)
        rows: list[Row] = [(u, int(i), "buy") for u in range(300) for i in rng.choice(30, 5, False)]
        assert silent(audit(prepared(rows, behaviors=("buy",))), "Popularity")


class TestTimes:
    def test_funnel_before_the_cut_is_knowledge_and_no_leak(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, u, "buy", MAY + HOUR * u) for u in range(9)]
        rows += [(u, 20 + u, "cart", MAY + 20 * HOUR + u) for u in range(3)]
        rows += [(u, 20 + u, "buy", MAY + 30 * HOUR + u) for u in range(6)]
        found = audit(
            prepared(rows, behaviors=("cart", "buy"), holdout="time:2024-05-02T06:00:00+00:00")
        )
        assert isinstance(found.held_out, HeldOutFigures)
        assert found.held_out.slices == {"all": 6, "in-funnel": 3, "new": 3}
        assert "so no leak; 3 pairs are new" in found.verdicts[0]
        assert found.protocol == "time"
        assert silent(found, "Times look wrong")

    def test_last_is_told_to_leak_the_future_of_others(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, i, "buy", MAY + HOUR * (u + i)) for u in range(5) for i in range(3)]
        found = audit(prepared(rows, behaviors=("buy",), holdout="last"))
        assert isinstance(found.held_out, HeldOutFigures)
        assert found.held_out.pairs == 5
        assert (found.protocol, "--holdout time:0.9" in found.why) == ("time", True)

    def test_hold_out_before_training_is_found(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, i, "buy", MAY + HOUR * i) for u in range(4) for i in range(3)]
        held: list[tuple[int | str, int | str]] = [(0, 0), (1, 2), (2, 2), (3, 1)]
        found = audit(prepared(rows, behaviors=("buy",), held=held))
        assert isinstance(found.times, Times)
        assert found.times.before_training == 0.5
        assert said(found, "50.0 % of the held-out pairs with a time precede")

    def test_one_instant_orders_nothing(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, i, "buy", MAY) for u in range(4) for i in range(3)]
        found = audit(prepared(rows, behaviors=("buy",)))
        assert "all 12 events are at 2024-05-01T00:00:00Z" in said(found, "Times look wrong")
        assert (found.protocol, "the times are of no use" in found.why) == ("discovery", True)

    def test_wrong_years_defaults_and_dates_are_found(self, prepared: Prepare) -> None:
        future = int(clock.time()) + 10 * 24 * HOUR
        rows: list[Row] = [(u, i, "buy", MAY + 24 * HOUR * i) for u in range(9) for i in range(30)]
        rows += [(0, 99, "buy", 1), (1, 99, "buy", future)]
        rows += [(u, 88, "buy", MAY) for u in range(40)]
        found = audit(prepared(rows, behaviors=("buy",)))
        times = found.times
        assert isinstance(times, Times)
        assert (times.before_1990, times.future) == (1, 1)
        assert times.first == "1970-01-01T00:00:01Z"
        assert times.busiest_at == "2024-05-01T00:00:00Z"
        assert times.busiest == pytest.approx(49 / 312)
        text = " ".join(found.verdicts)
        for expected in ("before 1990: 1;", "in the future: 1;", "15.7 % of"):
            assert expected in text
        assert said(found, "Times are dates")

    def test_times_beyond_the_calendar_do_not_fail(self, prepared: Prepare) -> None:
        rows: list[Row] = [
            (0, 1, "buy", MAY),
            (0, 2, "buy", MAY + 1),
            (0, 3, "buy", 300_000_000_000),
        ]
        found = audit(prepared(rows, behaviors=("buy",), options=ReadOptions(time_unit="s")))
        assert isinstance(found.times, Times)
        assert found.times.last.endswith(" ms")

    def test_log_of_dates_within_a_day_has_no_order(self, prepared: Prepare) -> None:
        rows: list[Row] = [(0, i, "buy", MAY + HOUR * (i // 2)) for i in range(8)]
        found = audit(prepared(rows, behaviors=("buy",)))
        assert isinstance(found.times, Times)
        assert found.times.tied == 1.0
        assert said(found, "100.0 % of the events share their instant")


class TestAnyLog:
    def test_one_behaviour_has_no_funnel(self, prepared: Prepare) -> None:
        rows: list[Row] = [(u, i, "buy") for u in range(5) for i in range(3)]
        found = audit(prepared(rows, behaviors=("buy",)))
        assert found.nesting == {}
        assert isinstance(found.marginal, Skipped)
        assert isinstance(found.held_out, HeldOutFigures)
        assert found.held_out.slices == {"all": 5}
        assert found.protocol == "discovery"
        assert "buy is the only behaviour" in shown(found)

    @pytest.mark.parametrize("holdout", ["random", "last"])
    def test_nothing_to_hold_out_is_said(self, prepared: Prepare, holdout: str) -> None:
        rows: list[Row] = [(u, u, "buy", MAY) for u in range(5)]
        found = audit(prepared(rows, behaviors=("buy",), holdout=holdout))
        assert isinstance(found.held_out, Skipped)
        assert isinstance(found.marginal, Skipped)
        assert found.verdicts[0].startswith("Nothing is held out: no user ")
        assert "something to hold out" in found.why
        assert "Held out: skipped, no user" in shown(found)

    def test_repeats_undos_and_dropped_rows_are_counted(self, prepared: Prepare) -> None:
        rows: list[Row] = [(0, 1, "cart"), (0, 1, "uncart"), (0, 2, "cart"), (0, 2, "cart")]
        rows += [(0, 2, "buy"), (0, 3, "buy"), (0, 4, "wish")]
        options = ReadOptions(
            behaviors=("cart", "buy"), undo={"cart": "uncart"}, unknown="drop", malformed="drop"
        )
        found = audit(prepared(rows, behaviors=("cart", "buy"), options=options))
        cart = found.volumes[0]
        assert (cart.events, cart.undo_events, cart.pairs) == (3, 1, 1)
        assert cart.repeated == pytest.approx(2 / 3)
        assert found.read["rows_read"] == 7
        assert said(found, "1 of 7 rows were dropped")

    def test_names_are_shown_as_they_are(self, prepared: Prepare) -> None:
        rows: list[Row] = [
            (u, i, name) for u in range(3) for i in range(3) for name in ("[a]", "[b]")
        ]
        text = shown(audit(prepared(rows, behaviors=("[a]", "[b]"))))
        assert "[a] - [b]" in text
        assert "every [b] pair is also in [a]" in text

    def test_audit_of_a_saved_data_set_is_the_same(self, prepared: Prepare, tmp_path: Path) -> None:
        data = prepared(LEAKY, held=LEAKY_HELD)
        data.save(tmp_path / "data")
        assert audit(load(tmp_path / "data")).to_json() == audit(data).to_json()


class TestGroups:
    def test_first_group_is_the_papers_where_nobody_has_fewer(self) -> None:
        counts = np.r_[np.full(7, 5), np.full(3, 8), np.arange(9, 49)]
        found = [(each.low, each.high, each.users) for each in sparsity_groups(counts)]
        assert found == [(5, 8, 10), (9, 18, 10), (19, 28, 10), (29, 38, 10), (39, 48, 10)]

    def test_else_all_groups_hold_equally_many(self) -> None:
        found = [(g.low, g.high, g.users) for g in sparsity_groups(np.arange(51))]
        assert found == [
            *((0, 0, 1), (1, 10, 10), (11, 20, 10)),
            *((21, 30, 10), (31, 40, 10), (41, 50, 10)),
        ]

    def test_equal_bounds_merge_and_every_user_is_in_one(self) -> None:
        counts = np.r_[np.ones(90, np.int64), 2, 3, np.zeros(4, np.int64), 70]
        found = sparsity_groups(counts)
        assert [(each.low, each.high) for each in found] == [(0, 0), (1, 1), (2, 70)]
        assert sum(each.users for each in found) == len(counts)
