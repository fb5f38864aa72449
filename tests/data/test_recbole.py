"""RecBole's atomic files, and logs with a file for each behaviour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.cli import run
from nmtr.data.events import EventLog, ReadOptions, read_events
from nmtr.data.interactions import load
from nmtr.errors import DataError, UsageError

Write = Callable[[str, str], Path]
TYPED = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file to the folder that is the current one."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return make


def read(*sources: str, **options: Any) -> EventLog:
    return read_events(sources, ReadOptions(**options))


def rows(log: EventLog) -> list[tuple[Any, ...]]:
    return log.frame.drop("undo").rows()


def test_a_typed_header_names_the_columns(write: Write) -> None:
    write("ml.inter", TYPED + "1\t07\t5\t881250949\n2\tb\t3\t881250950.0\n")
    log = read("buy=ml.inter")
    assert rows(log) == [
        (1, "07", "buy", 881250949000),
        (2, "b", "buy", 881250950000),
    ]


def test_a_behaviour_may_be_a_column(write: Write) -> None:
    write("t.inter", "user_id:token\titem_id:token\tbehavior_type:token\n1\t2\tpv\n1\t2\tbuy\n")
    log = read("t.inter", rename={"pv": "view"}, behaviors=("view", "buy"))
    assert rows(log) == [(1, 2, "view"), (1, 2, "buy")]


def test_columns_of_a_typed_header_are_named_without_their_types(write: Write) -> None:
    write("t.inter", "uid2:token\tvideo:token\tkind:token\n1\t2\tplay\n")
    assert rows(read("t.inter", user="uid2", item="video", behavior="kind")) == [(1, 2, "play")]
    with pytest.raises(
        UsageError, match=r"--item 'clip' is not there.*\['uid2', 'video', 'kind'\]"
    ):
        read("t.inter", item="clip")


def test_other_separators_and_a_last_empty_field_are_read(write: Write) -> None:
    write("t.inter", "user_id:token,item_id:token,timestamp:float\n1,2,10\n")
    assert rows(read("buy=t.inter")) == [(1, 2, "buy", 10_000)]
    write("u.inter", TYPED + "1\t2\t\t10\n")
    assert rows(read("buy=u.inter")) == [(1, 2, "buy", 10_000)]


def test_colons_of_another_kind_are_names_as_they_stand(write: Write) -> None:
    write("t.csv", "user,item,event,price:eur\n1,2,view,3\n")
    assert rows(read("t.csv")) == [(1, 2, "view")]
    write("u.csv", "user:token,item:token,event\n1,2,view\n")
    with pytest.raises(DataError, match=r"found none.*'user:token'"):
        read("u.csv")


def test_a_column_of_lists_is_refused(write: Write) -> None:
    write("t.inter", "user_id:token\titem_id:token_seq\n1\t2 3\n")
    with pytest.raises(
        DataError, match=r"t\.inter: expected one value a row in item_id.*token_seq"
    ):
        read("buy=t.inter")


def test_a_list_that_is_not_read_is_no_matter(write: Write) -> None:
    write("t.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t2 3\t4\n")
    assert rows(read("buy=t.inter")) == [(1, 4, "buy")]


def test_without_behaviours_the_error_says_how_to_name_one(write: Write) -> None:
    write("ml.inter", TYPED + "1\t2\t5\t10\n")
    with pytest.raises(DataError, match=r"behaviour column.*buy=FILE"):
        read("ml.inter")


def test_a_folder_of_atomic_files_gives_its_interactions(write: Write) -> None:
    write("ml/ml.inter", TYPED + "1\t2\t5\t10\n")
    write("ml/ml.user", "user_id:token\tage:token\n1\t24\n")
    log = read("view=ml")
    assert rows(log) == [(1, 2, "view", 10_000)]
    assert any("ml.user" in note for note in log.report.notes)


def test_each_form_may_be_of_one_behaviour(write: Write) -> None:
    write("carts.csv", "user,item\n1,2\n1,3\n")
    write("buys.jsonl", '{"user": 1, "item": 3}\n{"user": 2, "item": 3, "type": "x"}\n')
    write("outs.jsonl", '{"session": 1, "events": [{"aid": 2}]}\n')
    pl.DataFrame({"user": [5], "item": [6]}).write_parquet("views.parquet")
    log = read(
        *("view=views.parquet", "cart=carts.csv", "buy=buys.jsonl", "out=outs.jsonl"),
        behaviors=("view", "cart", "buy"),
        undo={"cart": "out"},
    )
    assert log.frame.rows() == [
        (5, 6, "view", False),
        (1, 2, "cart", False),
        (1, 3, "cart", False),
        (1, 3, "buy", False),
        (2, 3, "buy", False),
        (1, 2, "cart", True),
    ]


def test_a_named_behaviour_stands_above_the_file_s_own(write: Write) -> None:
    write("orders.csv", "user,item,type\n1,2,visa\n")
    assert rows(read("buy=orders.csv")) == [(1, 2, "buy")]


def test_an_unknown_name_is_an_unknown_behaviour(write: Write) -> None:
    write("orders.csv", "user,item\n1,2\n")
    with pytest.raises(DataError, match=r"orders\.csv line 2: behaviour 'bought' is not in"):
        read("bought=orders.csv", behaviors=("view", "buy"))
    assert rows(read("bought=orders.csv", rename={"bought": "buy"}, behaviors=("buy",)))


def test_a_path_with_an_equals_sign_is_a_path(write: Write) -> None:
    write("day=1/a.csv", "user,item,event\n1,2,view\n")
    write("day=2/a.csv", "user,item,event\n1,3,view\n")
    write("buy=1.csv", "user,item,event\n1,4,view\n")
    assert rows(read("day=1/a.csv")) == [(1, 2, "view")]
    assert rows(read("day=*/a.csv")) == [(1, 2, "view"), (1, 3, "view")]
    assert rows(read("buy=1.csv")) == [(1, 4, "view")]
    assert rows(read("cart=day=2/a.csv")) == [(1, 3, "cart")]


def test_what_is_not_there_is_named_without_the_behaviour(write: Write) -> None:
    write("a.csv", "user,item\n1,2\n")
    with pytest.raises(UsageError, match=r"^orders\.csv: expected a file"):
        read("buy=orders.csv")
    with pytest.raises(UsageError, match=r"^=a\.csv: expected a file"):
        read("=a.csv")


def test_a_file_cannot_be_of_two_behaviours(write: Write) -> None:
    write("a.csv", "user,item,event\n1,2,view\n")
    with pytest.raises(UsageError, match=r"a\.csv was named for view and buy"):
        read("view=a.csv", "buy=a.csv")
    with pytest.raises(UsageError, match=r"a\.csv was named for no behaviour and buy"):
        read("a.csv", "buy=a.csv")
    assert read("view=a.csv", "view=*.csv").frame.height == 1


def test_a_whole_split_of_recbole_s_is_prepared(write: Write) -> None:
    pairs = {"train": "1\t1\n1\t2\n2\t1\n2\t3\n", "valid": "1\t4\n", "test": "1\t3\n2\t2\n"}
    for part, lines in pairs.items():
        write(f"b.{part}.inter", "user_id:token\titem_id:token\n" + lines)
    write("b-views.inter", "user_id:token\titem_id:token\n1\t1\n1\t3\n2\t4\n")
    done = run(
        [
            "prepare",
            "view=b-views.inter",
            "buy=b.train.inter",
            "buy=b.valid.inter",
            "--behaviors",
            "view,buy",
            "--holdout",
            "buy=b.test.inter",
            "--out",
            "data",
        ]
    )
    assert done == 0
    data = load(Path("data"))
    assert data.manifest["events_per_behavior"] == {"view": 3, "buy": 5}
    assert data.holdout_user is not None
    assert data.holdout_item is not None
    held = zip(data.users.take(data.holdout_user), data.items.take(data.holdout_item), strict=True)
    assert set(held) == {(1, 3), (2, 2)}


def test_a_hold_out_of_another_behaviour_is_refused(write: Write) -> None:
    write("a.csv", "user,item\n1,2\n")
    write("b.csv", "user,item\n1,2\n")
    words = [
        "prepare",
        "view=a.csv",
        "buy=b.csv",
        "--behaviors",
        "view,buy",
        "--out",
        "data",
        "--holdout",
    ]
    assert run([*words, "view=a.csv"]) == 1
    assert run([*words, "buy=c.csv"]) == 2
