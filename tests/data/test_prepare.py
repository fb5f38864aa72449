"""From a log to a prepared data set: what is kept, in which order, and what is held out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.data.events import EventLog, ReadOptions, from_frame
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.vocabulary import Vocabulary
from nmtr.errors import DataError, UsageError

DAY = 86_400_000
FIRST = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
Row = tuple[Any, ...]


def log_of(rows: list[Row], **options: Any) -> EventLog:
    """Rows (user, item, behaviour) or (user, item, behaviour, milliseconds)."""
    names = ["user_id", "item_id", "behavior", "timestamp"][: len(rows[0])]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return from_frame(frame, ReadOptions(time_unit="ms" if len(names) == 4 else None, **options))


def events_of(data: Interactions) -> list[Row]:
    """(user id, item id, code), in the order in which they stand."""
    users, items = data.users.take(data.user), data.items.take(data.item)
    return list(zip(users, items, data.code.tolist(), strict=True))


def buys(n: int) -> list[Row]:
    """n views on the first of January, and a buy on each of the n days from it on."""
    views = [(1, item, "view", FIRST) for item in range(n)]
    return views + [(1, item, "buy", FIRST + item * DAY) for item in range(n)]


ORDER = ["view", "buy"]
PLAIN: list[Row] = [(5, "b", "view"), (3, "a", "buy"), (5, "a", "view"), (3, "c", "view")]


class TestIndices:
    def test_ids_are_numbered_by_first_appearance(self) -> None:
        data = prepare(log_of(PLAIN), behaviors=ORDER)
        assert data.users.ids.to_list() == [5, 3]
        assert data.items.ids.to_list() == ["b", "a", "c"]

    def test_events_stand_by_user_in_the_order_of_the_log(self) -> None:
        data = prepare(log_of(PLAIN), behaviors=ORDER)
        assert events_of(data) == [(5, "b", 0), (5, "a", 0), (3, "a", 1), (3, "c", 0)]
        assert data.indptr.tolist() == [0, 2, 4]

    def test_times_order_a_user_s_events_and_the_log_breaks_ties(self) -> None:
        rows = [(1, "c", "view", 30), (1, "a", "buy", 10), (1, "b", "view", 10), (1, "d", "buy", 5)]
        data = prepare(log_of(rows), behaviors=ORDER, holdout="last")
        assert [item for _, item, _ in events_of(data)] == ["d", "a", "b", "c"]
        assert data.time is not None
        assert data.time.tolist() == [5, 10, 10, 30]

    def test_repeats_stay_events(self) -> None:
        data = prepare(log_of([(1, 1, "view"), (1, 1, "view"), (1, 1, "buy")]), behaviors=ORDER)
        assert data.code.tolist() == [0, 0, 1]
        assert data.records().sets[0].nnz == 1

    def test_the_order_of_behaviours_is_the_caller_s(self) -> None:
        data = prepare(log_of(PLAIN), behaviors=["buy", "view"])
        assert data.behaviors == ("buy", "view")
        assert data.code.tolist() == [1, 1, 0, 1]

    def test_an_undo_stands_as_the_negative_of_what_it_undoes(self) -> None:
        rows = [(1, 1, "view"), (1, 1, "cart"), (1, 1, "uncart"), (1, 1, "buy"), (1, 1, "return")]
        log = log_of(rows, undo={"cart": "uncart", "buy": "return"})
        data = prepare(log, behaviors=["view", "cart", "buy"])
        assert data.code.tolist() == [0, 1, -2, 2, -3]
        assert data.manifest["undo_events"] == 2
        assert data.manifest["events_per_behavior"] == {"view": 1, "cart": 1, "buy": 1}
        assert [each.nnz for each in data.records().sets] == [1, 0, 0]

    @pytest.mark.parametrize(
        ("ids", "asked", "expected"),
        [
            ([10, 2**62 + 1], ["10", 2**62 + 1, 2**62, 2**70, "x", None], [0, 1, -1, -1, -1, -1]),
            (["10", "007", "ü"], [10, 7, "007", "ü", "nobody"], [0, -1, 1, 2, -1]),
        ],
    )
    def test_ids_are_looked_up_by_value(
        self, ids: list[Any], asked: list[Any], expected: list[int]
    ) -> None:
        vocabulary = Vocabulary(pl.Series("id", ids))
        assert [int(vocabulary.indices([each])[0]) for each in asked] == expected
        assert vocabulary.indices(asked).tolist() == expected
        assert vocabulary.take(vocabulary.indices(ids)).to_list() == ids


class TestBehaviours:
    def test_a_behaviour_without_events_is_refused(self) -> None:
        with pytest.raises(DataError, match="no event of behaviour 'cart'; it has 'buy', 'view'"):
            prepare(log_of(PLAIN), behaviors=["view", "cart", "buy"])

    def test_a_behaviour_that_is_only_ever_undone_is_refused(self) -> None:
        log = log_of([*PLAIN, (1, "a", "uncart")], undo={"cart": "uncart"})
        with pytest.raises(DataError, match="no event of behaviour 'cart'"):
            prepare(log, behaviors=["view", "cart", "buy"])

    def test_a_behaviour_that_was_not_named_is_refused(self) -> None:
        with pytest.raises(DataError, match="the log has behaviour 'view', which is not in buy"):
            prepare(log_of(PLAIN), behaviors=["buy"])

    @pytest.mark.parametrize("behaviors", [[], ["view", "view", "buy"]])
    def test_no_or_repeated_names_are_refused(self, behaviors: list[str]) -> None:
        with pytest.raises(UsageError, match="behaviour"):
            prepare(log_of(PLAIN), behaviors=behaviors)


class TestHoldOutRule:
    def test_auto_is_by_time_where_there_are_times(self) -> None:
        assert prepare(log_of(buys(10)), behaviors=ORDER).holdout["rule"] == "time"
        assert prepare(log_of(PLAIN), behaviors=ORDER).holdout["rule"] == "random"

    @pytest.mark.parametrize(
        "cut",
        [
            *("2026-01-08", "2026-01-08T00:00:00", "2026-01-08T01:00:00+01:00", "0.7"),
            *(str(FIRST + 7 * DAY), str((FIRST + 7 * DAY) // 1000)),
        ],
    )
    def test_a_cut_is_a_date_a_unix_time_or_a_share(self, cut: str) -> None:
        data = prepare(log_of(buys(10)), behaviors=ORDER, holdout=f"time:{cut}")
        assert data.holdout == {"rule": "time", "cut": FIRST + 7 * DAY, "seed": 0}

    def test_a_share_leaves_that_share_of_target_events_before_the_cut(self) -> None:
        log = log_of(buys(40))
        for share in (0.1, 0.5, 0.8, 0.95):
            cut = prepare(log, behaviors=ORDER, holdout=f"time:{share}").holdout["cut"]
            assert sum(row[2] == "buy" and row[3] < cut for row in buys(40)) == round(share * 40)

    def test_returns_do_not_move_the_cut(self) -> None:
        returned = [(1, 0, "return", FIRST + 9 * DAY)] * 50
        log = log_of(buys(10) + returned, undo={"buy": "return"})
        cut = prepare(log, behaviors=ORDER, holdout="time:0.5").holdout["cut"]
        assert cut == FIRST + 5 * DAY

    @pytest.mark.parametrize("cut", ["2025-12-31", "2026-01-01", "2026-02-01", "0", "1", "-3"])
    def test_a_cut_must_lie_inside_the_target_events(self, cut: str) -> None:
        with pytest.raises(UsageError, match=r"between 2026-01-01.* and 2026-01-10.*cut inside"):
            prepare(log_of(buys(10)), behaviors=ORDER, holdout=f"time:{cut}")

    @pytest.mark.parametrize("cut", ["", "tomorrow", "2026-13-01", "nan", "inf", "0,9"])
    def test_a_cut_that_is_none_is_refused(self, cut: str) -> None:
        with pytest.raises(UsageError, match="expected a date"):
            prepare(log_of(buys(10)), behaviors=ORDER, holdout=f"time:{cut}")

    @pytest.mark.parametrize("rule", ["last", "time:0.9"])
    def test_order_needs_times(self, rule: str) -> None:
        with pytest.raises(UsageError, match=r"needs times.*--holdout random"):
            prepare(log_of(PLAIN), behaviors=ORDER, holdout=rule)

    def test_an_unknown_rule_is_refused_with_those_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no such file, and none of random, last, time:CUT"):
            prepare(log_of(PLAIN), behaviors=ORDER, holdout=str(tmp_path / "randon"))


class TestHoldOutFile:
    def write(self, path: Path, text: str) -> Path:
        (path / "held.csv").write_text("user_id,item_id,behavior\n" + text)
        return path / "held.csv"

    def test_unknown_users_and_items_are_numbered_after_those_of_the_log(
        self, tmp_path: Path
    ) -> None:
        held = self.write(tmp_path, "9,a,buy\n3,z,buy\n3,z,buy\n5,c,view\n")
        data = prepare(log_of(PLAIN), behaviors=ORDER, holdout=held)
        assert data.users.ids.to_list() == [5, 3, 9]
        assert data.items.ids.to_list() == ["b", "a", "c", "z"]
        assert data.holdout_user is not None
        assert data.holdout_item is not None
        assert data.holdout_user.tolist() == [2, 1]
        assert data.holdout_item.tolist() == [1, 3]
        assert data.holdout == {"rule": "file", "file": str(held), "seed": 0}
        assert data.indptr.tolist() == [0, 2, 4, 4]
        assert len(data.user_hash) == 3

    def test_only_target_events_are_held_out(self, tmp_path: Path) -> None:
        held = self.write(tmp_path, "3,a,view\n")
        with pytest.raises(DataError, match="no 'buy' event"):
            prepare(log_of(PLAIN), behaviors=ORDER, holdout=held)

    def test_a_purchase_that_was_undone_is_not_held_out(self, tmp_path: Path) -> None:
        held = self.write(tmp_path, "3,a,return\n")
        options = ReadOptions(undo={"buy": "return"})
        with pytest.raises(DataError, match="no 'buy' event"):
            prepare(log_of(PLAIN), behaviors=ORDER, holdout=held, options=options)

    def test_ids_of_another_type_are_refused(self, tmp_path: Path) -> None:
        held = self.write(tmp_path, "x3,a,buy\n")
        with pytest.raises(DataError, match="user_id is Int64 in the log and String in"):
            prepare(log_of(PLAIN), behaviors=ORDER, holdout=held)
