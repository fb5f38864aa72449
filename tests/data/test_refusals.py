"""What cannot be a log is refused with what was expected, what came, and what to do."""

from __future__ import annotations

import gzip
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.data.appending import append
from nmtr.data.events import ReadOptions, from_frame, read_events
from nmtr.data.frames import to_frame
from nmtr.data.interactions import load
from nmtr.data.outofcore import prepare_files
from nmtr.errors import DamagedError, DataError, NmtrError, UsageError

LINES = "ann,pen,view\nann,ink,buy\n"
COLUMNS: dict[str, list[Any]] = {"user_id": [1, 2], "item_id": [3, 4], "behavior": ["view", "buy"]}


def frame(**changed: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(COLUMNS | changed)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (
            LINES,
            {"columns": ("user_id", "item_id")},
            r"line 1: --columns names 2 columns, the line has 3 fields split at ','.*--delimiter",
        ),
        (
            "user_id,item_id,behavior\n" + LINES,
            {"user": "item_id", "item": "item_id"},
            r"one column is named for two roles: \['item_id', 'item_id'\]",
        ),
        (
            "user_id,item_id,behavior,time,date\n" + LINES,
            {},
            r"\['time', 'date'\] could all hold the time; .*--time NAME \(or --time \"\"",
        ),
        (
            "user_id,user_id,item_id,behavior\n" + LINES,
            {"user": "user_id"},
            "--user 'user_id' is there more than once",
        ),
        (
            "us\xe9r,item_id,behavior\n".encode("latin-1") + LINES.encode(),
            {},
            r"line 1: expected column names in UTF-8, got .*iconv",
        ),
    ],
)
def test_columns_that_are_no_answer(
    tmp_path: Path, text: str | bytes, options: dict[str, Any], said: str
) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(NmtrError, match=f"log.csv.*{said}"):
        read_events([path], ReadOptions(**options))


def test_no_time_column_where_two_could_be_it_and_none_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,behavior,time,date\nann,pen,view,5,6\n")
    log = read_events([path], ReadOptions(time=""))
    assert (log.has_time, log.frame.height) == (False, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"undo": {"view": "gone", "cart": "gone"}}, r"--undo gives \['gone'\] to several"),
        ({"undo": {"view": "buy"}, "behaviors": ("view", "buy")}, r"\['buy'\] stand in --undo and"),
        ({"undo": {"cart": "gone"}, "behaviors": ("view", "buy")}, r"--undo names \['cart'\], whi"),
        ({"behaviors": ()}, r"distinct names, target last; got \[\]"),
        ({"delimiter": '"'}, "one ASCII character other than a quote"),
        ({"delimiter": "::"}, "got '::'"),
        ({"time_unit": "h"}, r"--time-unit expects one of .*got 'h'"),
        ({"unknown": "keep"}, "--unknown expects 'error' or 'drop', got 'keep'"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ReadOptions(**options)


@pytest.mark.parametrize(
    ("column", "options", "said"),
    [
        ({"timestamp": [timedelta(1)] * 2}, {}, r"times or dates, got a column of type Duration"),
        ({"timestamp": [True, False]}, {}, "numbers, ISO text or dates, got type Boolean.*--time"),
        ({"timestamp": [1, 2]}, {"time_unit": "iso"}, "iso expects text .*got numbers of type Int"),
        ({"behavior": [True, False]}, {}, "behaviours as text or integers, got .*Boolean"),
        ({"behavior": [["view"], ["buy"]]}, {}, r"got a column of type List.*--behavior"),
        ({"behavior": [1.0, 2.5]}, {}, "behavior as whole numbers, got the float 2.5"),
        ({"user_id": [1.0, 2.0**60]}, {}, "user_id as whole numbers, got the float"),
        ({"item_id": [True, False]}, {}, "item_id as integers or text, got .*Boolean"),
    ],
)
def test_types_that_hold_no_such_thing(
    column: dict[str, list[Any]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        from_frame(frame(**column), ReadOptions(**options))


def test_whole_floats_are_ids_and_labels() -> None:
    floats = frame(user_id=[7.0, float("nan")], behavior=[1.0, 2.0])
    log = from_frame(floats, ReadOptions(malformed="drop"))
    assert log.frame.select("user_id", "behavior").rows() == [(7, "1")]
    assert log.report.dropped == {"missing user": 1}


def test_columns_of_different_length_and_one_name_twice() -> None:
    import pandas as pd

    with pytest.raises(DataError, match="expected a frame or columns of one length, got "):
        to_frame({"user_id": [1, 2], "item_id": [3]})
    twice = pd.DataFrame([[1, 2]], columns=["user_id", "user_id"])
    with pytest.raises(DataError, match=r"distinct names, got \['user_id', 'user_id'\]"):
        to_frame(twice)


def test_what_is_no_path_and_a_table_that_is_packed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no path|found nothing there"):
        read_events(["log\0.csv"])
    file = tmp_path / "log.parquet"
    frame().write_parquet(file)
    packed = tmp_path / "log.parquet.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(DataError, match="Parquet file as it is, got it packed; unpack it"):
        read_events([packed])


def test_an_array_of_events_is_told_from_lines_of_them(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps([{"user_id": 1, "item_id": 2, "behavior": "view"}]))
    with pytest.raises(DataError, match=r"one JSON object a line, got an array; .*jq -c"):
        read_events([path])


def prepared(folder: Path, *, timed: bool) -> Path:
    """A data set of four users with two buys each."""
    rows = [(u, i, b, 10 * u + i) for u in range(4) for i in range(3) for b in ("view", "buy")]
    names = ["user_id", "item_id", "behavior", "timestamp"]
    log = pl.DataFrame(rows, schema=names, orient="row")
    (log if timed else log.drop("timestamp")).write_csv(folder / "log.csv")
    prepare_files(
        [folder / "log.csv"],
        folder / "data",
        behaviors=("view", "buy"),
        holdout="random",
        options=ReadOptions(time_unit="ms" if timed else None),
    )
    return folder / "data"


@pytest.mark.parametrize("timed", [True, False])
def test_a_day_with_times_goes_onto_no_data_without_and_the_other_way_round(
    tmp_path: Path, timed: bool
) -> None:
    data = prepared(tmp_path, timed=timed)
    before = load(data).fingerprint()
    day = tmp_path / "day.csv"
    day.write_text(
        "user_id,item_id,behavior\n9,1,buy\n" if timed
        else "user_id,item_id,behavior,timestamp\n9,1,buy,99\n"
    )  # fmt: skip
    has = "has no time column, and .* has one" if timed else "has a time column, and .* has no"
    with pytest.raises(UsageError, match=f"the log {has}; they must be alike"):
        append(data, [day])
    assert load(data).fingerprint() == before
    assert not list(data.glob(".day*"))


def test_a_data_set_of_a_newer_nmtr_is_left_to_it(tmp_path: Path) -> None:
    data = prepared(tmp_path, timed=True)
    file = data / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 3}))
    with pytest.raises(DamagedError, match=r"has schema 3, this nmtr .* reads 1 and 2"):
        load(data)
    file.write_text("{")
    with pytest.raises(DamagedError, match="not readable JSON"):
        load(data)
    shutil.rmtree(data)
    with pytest.raises(UsageError, match="no prepared data set"):
        load(data)
