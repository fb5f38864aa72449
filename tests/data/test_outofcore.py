"""Prepared from files in bounded memory, in shards, or day by day: the same data set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmtr.data import appending, interactions, shards, spool
from nmtr.data.appending import append
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import ARRAYS, Interactions, load
from nmtr.data.outofcore import prepare_files
from nmtr.data.prepare import prepare
from nmtr.data.reading import tables
from nmtr.data.split import split
from nmtr.errors import DataError, NmtrError, UsageError

NAMES = ["user_id", "item_id", "behavior", "timestamp"]
BEHAVIORS = ["view", "buy"]
START = 1_700_000_000_000
Row = tuple[Any, ...]

event = st.tuples(
    st.integers(0, 9),
    st.integers(0, 7),
    st.sampled_from(["view", "buy", "return"]),
    st.integers(START, START + 6),
)
days = st.lists(st.lists(event, min_size=1, max_size=12), min_size=1, max_size=3)
SMALL = settings(
    max_examples=9, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(folder: Path, name: str, rows: list[Row], *, text: bool = False) -> Path:
    frame = pl.DataFrame(rows, schema=NAMES[: len(rows[0])], orient="row")
    if text:
        frame = frame.with_columns(("u" + pl.col("user_id").cast(pl.String)).alias("user_id"))
    frame.write_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def options(**given: Any) -> ReadOptions:
    return ReadOptions(behaviors=tuple(BEHAVIORS), undo={"buy": "return"}, time_unit="ms", **given)


def same(ours: Interactions, theirs: Interactions) -> None:
    for name in ARRAYS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            assert (mine.dtype, mine.tolist()) == (other.dtype, other.tolist()), name
    for name in ("users", "items"):
        assert getattr(ours, name).ids.equals(getattr(theirs, name).ids)
    for name in ("events", "events_per_behavior", "undo_events", "users", "items", "holdout"):
        assert ours.manifest[name] == theirs.manifest[name], name
    assert ours.manifest["read"]["rows_read"] == theirs.manifest["read"]["rows_read"]
    assert ours.manifest["read"]["dropped"] == theirs.manifest["read"]["dropped"]


def equal_splits(ours: Interactions, theirs: Interactions, **how: Any) -> None:
    found: list[Any] = []
    for each, at_once in ((ours, 6), (theirs, 2**23)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interactions, "EVENTS_AT_ONCE", at_once)
            try:
                found.append(split(each, **how))
            except NmtrError as error:
                found.append(str(error))
    mine, other = found
    if isinstance(mine, str) or isinstance(other, str):
        assert mine == other
        return
    sets = [
        [
            *each.train.sets,
            each.evaluation.truth,
            each.evaluation.mask,
            *each.evaluation.histories.items,
        ]
        for each in (mine, other)
    ]
    for one, two in zip(*sets, strict=True):
        assert one.indptr.tolist() == two.indptr.tolist()
        assert one.indices.tolist() == two.indices.tolist()
    for name in ("users", "in_funnel", "sealed"):
        assert getattr(mine.evaluation, name).tolist() == getattr(other.evaluation, name).tolist()
    assert mine.evaluation.histories.users.tolist() == other.evaluation.histories.users.tolist()


@pytest.fixture(scope="module", params=[True, False], ids=["many shards", "one shard"])
def in_pieces(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Blocks, parts and shards of a few events each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROWS", 8)
        patch.setattr(spool, "USERS", 3)
        patch.setattr(spool, "EVENTS", 5)
        if request.param:
            patch.setattr(shards, "EVENTS", 9)
        yield request.param


PROTOCOL = {"time:0.5": "time", "last": "last", "random": "as-published"}


@given(
    log=days, holdout=st.sampled_from(list(PROTOCOL)), text=st.booleans(),
    cap=st.sampled_from([None, 4]),
)  # fmt: skip
@SMALL
def test_files_give_what_memory_gives(
    tmp_path_factory: pytest.TempPathFactory, in_pieces: bool, holdout: str,
    log: list[list[Row]], text: bool, cap: int | None,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("log")
    for number, rows in enumerate(log):
        write(folder, f"{number}", rows, text=text)
    how: dict[str, Any] = {
        "behaviors": BEHAVIORS, "holdout": holdout, "seed": 3, "options": options(cap=cap)
    }  # fmt: skip
    try:
        expected = prepare(read_events([folder], how["options"]), **how)
    except NmtrError:
        with pytest.raises(NmtrError):
            prepare_files([folder], folder / "data", **how)
        assert not (folder / "data").exists()
        return
    prepare_files([folder], folder / "data", **how)
    found = load(folder / "data")
    assert ("shards" in found.manifest) == (in_pieces and found.n_events > 9)
    same(found, expected)
    assert found.fingerprint() == expected.fingerprint()
    for fold in ("test", "validation"):
        equal_splits(load(folder / "data"), expected, protocol=PROTOCOL[holdout], fold=fold)


@given(
    holdout=st.sampled_from(["time", "last", "random"]),
    text=st.booleans(),
    log=st.lists(st.lists(event, min_size=1, max_size=10), min_size=2, max_size=3),
)
@SMALL
def test_days_appended_give_what_all_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, in_pieces: bool, holdout: str,
    log: list[list[Row]], text: bool,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("log")
    files = [write(folder, f"{number}", rows, text=text) for number, rows in enumerate(log)]
    how: dict[str, Any] = {"behaviors": BEHAVIORS, "options": options()}
    try:
        rule = "time:0.5" if holdout == "time" else holdout
        first = prepare_files(files[:1], folder / "data", holdout=rule, **how)
    except NmtrError:
        return
    before = contents(folder / "data")
    for file in files[1:]:
        if append(folder / "data", [file]) is None:  # the same events as a day before
            return
    after = contents(folder / "data")
    assert {each: after[each] for each in before} == before  # no byte of it was touched
    rule = f"time:{first['holdout']['cut']}" if holdout == "time" else holdout
    try:
        expected = prepare(read_events(files, how["options"]), holdout=rule, **how)
    except UsageError:  # every target event is after the cut, which appending may not move
        return
    same(load(folder / "data"), expected)
    for fold in ("test", "validation"):
        found = load(folder / "data")
        equal_splits(
            found,
            expected,
            protocol=found.holdout["rule"].replace("random", "as-published"),
            fold=fold,
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest."""
    files = (each for each in folder.rglob("*") if each.is_file() and each.name != "manifest.json")
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


FIRST: list[Row] = [
    (1, 10, "view", START), (2, 11, "buy", START + 1), (1, 10, "buy", START + 2),
    (2, 12, "buy", START + 3),
]  # fmt: skip
DAY: list[Row] = [(2, 13, "view", START + 9), (3, 10, "buy", START + 8), (1, 12, "view", START + 9)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    log = write(tmp_path, "first", FIRST)
    prepare_files([log], tmp_path / "data", behaviors=BEHAVIORS, options=options())
    return tmp_path / "data"


def test_a_day_appended_twice_is_known_by_its_events(data: Path, tmp_path: Path) -> None:
    day = write(tmp_path, "day", DAY)
    assert append(data, [day]) is not None
    once = (data / "manifest.json").read_bytes()
    again = write(tmp_path, "copy", DAY[::-1])
    assert append(data, [day]) is None
    assert append(data, [again]) is None
    assert append(data, [write(tmp_path, "base", FIRST)]) is None
    assert (data / "manifest.json").read_bytes() == once
    other = write(tmp_path, "other", [(9, 9, "buy", START + 20)])
    with pytest.raises(UsageError, match=r"has the events of '.*day.parquet' already"):
        append(data, [day, other])
    assert (data / "manifest.json").read_bytes() == once
    assert sorted(each.name for each in data.iterdir() if each.name.startswith((".", "day-"))) == [
        "day-00001"
    ]


def test_ids_that_turn_to_text_keep_their_numbers(data: Path, tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    day.write_text(
        f"user_id,item_id,behavior,timestamp\nx7,10,view,{START + 9}\n2,11,buy,{START + 9}\n"
    )
    append(data, [day])
    found = load(data)
    assert found.users.ids.to_list() == ["1", "2", "x7"]
    assert found.items.ids.to_list() == [10, 11, 12]
    assert found.item[found.indptr[1] : found.indptr[2]].tolist() == [1, 2, 1]


def test_late_events_stand_at_their_time_and_a_note_says_so(data: Path, tmp_path: Path) -> None:
    manifest = append(data, [write(tmp_path, "late", [(1, 12, "view", START + 1)])])
    assert manifest is not None
    assert any("late.parquet has events from before" in note for note in manifest["read"]["notes"])
    found = load(data)
    assert found.item[: found.indptr[1]].tolist() == [0, 2, 0]


def test_a_data_set_with_days_is_saved_as_one(data: Path, tmp_path: Path) -> None:
    append(data, [write(tmp_path, "day", DAY)])
    load(data).save(tmp_path / "one")
    one = load(tmp_path / "one")
    assert "shards" not in one.manifest
    same(one, load(data))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"holdout": "FILE"}, "its hold-out is a file of pairs"),
        ({"options": options(cap=100)}, "prepared with --cap"),
        ({"options": None}, "does not state how a log was read"),
    ],
)
def test_what_cannot_be_appended_to_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    log = write(tmp_path, "first", FIRST)
    if changed.get("holdout"):
        changed = {"holdout": write(tmp_path, "held", FIRST[-1:])}
    how: dict[str, Any] = {"options": options()} | changed
    prepare_files([log], tmp_path / "data", behaviors=BEHAVIORS, **how)
    with pytest.raises(UsageError, match=message):
        append(tmp_path / "data", [write(tmp_path, "day", DAY)])


def test_a_day_without_times_does_not_fit_a_log_with_them(data: Path, tmp_path: Path) -> None:
    before = contents(data)
    with pytest.raises(UsageError, match="has no time column"):
        append(data, [write(tmp_path, "day", [row[:3] for row in DAY])])
    with pytest.raises(DataError, match="behaviour 'cart' is not in"):
        append(data, [write(tmp_path, "bad", [(1, 1, "cart", START)])])
    assert contents(data) == before
    assert load(data).n_events == 4


def test_two_appends_at_once_are_refused(data: Path, tmp_path: Path) -> None:
    day = write(tmp_path, "day", DAY)
    with appending._alone(data), pytest.raises(UsageError, match="another process appends"):
        append(data, [day])
    assert append(data, [day]) is not None


KILLED = """
    import os, sys
    from nmtr.data import appending
    calls, at = 0, int(sys.argv[3])
    def dying(name):
        real = getattr(appending, name)
        def call(*given):
            global calls
            calls += 1
            if calls == at:
                os._exit(9)
            return real(*given)
        setattr(appending, name, call)
    for name in ("gather_into", "hash_ids", "files_in", "_sync", "seal"):
        dying(name)
    appending.append(sys.argv[1], [sys.argv[2]])
"""


def test_a_kill_at_any_step_leaves_the_data_set_as_it_was(data: Path, tmp_path: Path) -> None:
    day = write(tmp_path, "day", DAY)
    script = textwrap.dedent(KILLED).replace('"gather_into", ', "")
    before, fingerprint = contents(data), load(data).fingerprint()
    for at in (1, 3, 5, 100):  # the last one is not killed
        command = [sys.executable, "-c", script, str(data), str(day), str(at)]
        found = subprocess.run(command, env=os.environ, capture_output=True, text=True)
        if at < 100:
            assert found.returncode == 9, found.stderr
            assert load(data).fingerprint() == fingerprint
            assert json.loads((data / "manifest.json").read_text())["events"] == 4
        else:
            assert found.returncode == 0, found.stderr
    after = contents(data)
    assert {each: after[each] for each in before} == before
    assert {each.split("/")[0] for each in set(after) - set(before)} == {"day-00001"}
    assert load(data).n_events == 7


def test_more_users_than_a_part_holds_are_sorted_in_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 50, 4000), rng.integers(0, 9, 4000), rng.integers(0, 99, 4000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "EVENTS", 300)
        made = spool.Spool(tmp_path / "spool", timed=True)
        user, item, time = (
            each.astype(t) for each, t in zip(rows, ("i4", "i4", "i8"), strict=True)
        )
        made.add(user, item, np.zeros(4000, np.int8), time)
        parts = list(made.ranges(50))
    assert len(parts) > 10
    assert [each.low for each in parts[1:]] == [each.high for each in parts[:-1]]
    order = np.lexsort((time, user))
    assert np.concatenate([each.item for each in parts]).tolist() == item[order].tolist()
    assert not list((tmp_path / "spool").iterdir())
