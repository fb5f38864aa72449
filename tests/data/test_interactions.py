"""A prepared data set comes back as it was saved, or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.data import interactions, manifest
from nmtr.data.events import ReadOptions, from_frame
from nmtr.data.interactions import Interactions, load
from nmtr.data.manifest import verify
from nmtr.data.prepare import prepare
from nmtr.data.vocabulary import Vocabulary
from nmtr.errors import DamagedError, UsageError

LARGE = [2**62 + 1, 2**62 + 2, 7, -5]
TEXT = ["ü-1", "007", "7 ", "z"]


def make(users: list[int] | list[str], *, times: bool = True) -> Interactions:
    """Each user views two items and buys the second; times descend, so that order matters."""
    rows = [
        (user, f"item-{n}", behavior, 1000 - at)
        for at, user in enumerate(users)
        for n, behavior in enumerate(["view", "view", "buy"])
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "behavior", "timestamp"], orient="row")
    options = ReadOptions(time_unit="ms") if times else ReadOptions(time="")
    holdout = "last" if times else "random"
    return prepare(from_frame(frame, options), behaviors=["view", "buy"], holdout=holdout)


def with_pairs(data: Interactions) -> Interactions:
    users, items = np.array([[0, 2], [1, 2]], np.int32)
    return replace(data, holdout_user=users, holdout_item=items)


def same(ours: Interactions, theirs: Interactions) -> None:
    for name in interactions.ARRAYS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            assert mine.dtype == other.dtype, name
            assert mine.tolist() == other.tolist(), name
    for vocabulary in ("users", "items"):
        assert getattr(ours, vocabulary).ids.equals(getattr(theirs, vocabulary).ids)
    assert (ours.behaviors, ours.holdout) == (theirs.behaviors, theirs.holdout)
    assert ours.repurchase == theirs.repurchase


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with_pairs(make(TEXT)).save(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("users", [LARGE, TEXT], ids=["large integers", "text"])
@pytest.mark.parametrize("times", [True, False])
def test_what_was_saved_comes_back(
    tmp_path: Path, users: list[int] | list[str], times: bool
) -> None:
    data = make(users, times=times)
    data.save(tmp_path / "data")
    same(data, load(tmp_path / "data"))
    assert (data.time is not None) == times
    again = load(tmp_path / "data")
    again.save(tmp_path / "copy")
    same(data, load(tmp_path / "copy"))


def test_a_path_may_be_text(tmp_path: Path) -> None:
    data = make(TEXT)
    data.save(str(tmp_path / "data"))
    same(data, load(str(tmp_path / "data")))


def test_held_out_pairs_come_back(saved: Path) -> None:
    same(with_pairs(make(TEXT)), load(saved))


def test_the_fingerprint_is_of_the_contents_not_of_the_folder(saved: Path, tmp_path: Path) -> None:
    data = with_pairs(make(TEXT))
    assert data.fingerprint() == load(saved).fingerprint()
    load(saved).save(tmp_path / "copy")
    assert load(tmp_path / "copy").fingerprint() == data.fingerprint()
    others = [make(TEXT), make(LARGE), make(TEXT, times=False), replace(data, code=-1 - data.code)]
    others.append(replace(data, holdout_item=np.array([1, 1], np.int32)))
    assert len({data.fingerprint(), *(each.fingerprint() for each in others)}) == 6


def files() -> list[str]:
    return ["manifest.json", "users.parquet", "items.parquet"] + [
        f"{name}.npy" for name in interactions.ARRAYS
    ]


def test_these_are_all_files_of_the_folder(saved: Path) -> None:
    assert sorted(each.name for each in saved.iterdir()) == sorted(files())


@pytest.mark.parametrize("name", files())
def test_a_flipped_bit_anywhere_is_refused(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 60))
    harmless = json.loads(whole) if name == "manifest.json" else None
    for at in places:
        broken = bytearray(whole)
        broken[at] ^= 1
        if harmless is not None:
            try:
                if json.loads(broken) == harmless:  # a blank became another blank
                    continue
            except ValueError:
                pass
        (saved / name).write_bytes(broken)
        with pytest.raises((DamagedError, UsageError), match=name):
            load(saved)


@pytest.mark.parametrize("name", files())
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, name: str, left: float) -> None:
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(DamagedError, match=name):
        load(saved)


@pytest.mark.parametrize("name", files())
def test_a_missing_file_is_refused_by_name(saved: Path, name: str) -> None:
    (saved / name).unlink()
    kind = UsageError if name == "manifest.json" else DamagedError
    with pytest.raises(kind, match=name):
        load(saved)


def test_large_files_are_checked_by_size_on_load_and_read_by_verify(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "CHECKED_ON_LOAD", 0)
    whole = (saved / "item.npy").read_bytes()
    (saved / "item.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    opened = load(saved)
    with pytest.raises(DamagedError, match=r"item\.npy was altered"):
        verify(saved, opened.manifest)
    (saved / "item.npy").write_bytes(whole[:-1])
    with pytest.raises(DamagedError, match=rf"{len(whole) - 1} bytes.*{len(whole)}"):
        load(saved)


def test_another_schema_version_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "SCHEMA", 3)
    with pytest.raises(DamagedError, match=r"schema 1, this nmtr .* reads 3 and 2"):
        load(saved)


@pytest.mark.parametrize("content", ['{"format": "other"}', "[]", "{}"])
def test_another_program_s_manifest_is_not_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UsageError, match="not of a prepared data set"):
        load(tmp_path)


def test_a_folder_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path, Path(__file__)):
        with pytest.raises(UsageError, match="nmtr prepare"):
            load(path)


def test_a_failed_save_leaves_nothing_and_keeps_the_old(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    data = make(LARGE)
    monkeypatch.setattr(Vocabulary, "save", fail)
    for path in (saved.with_name("new"), saved):
        with pytest.raises(OSError, match="disk full"):
            data.save(path, force=True)
    assert [each.name for each in saved.parent.iterdir()] == ["data"]
    same(with_pairs(make(TEXT)), load(saved))


def test_the_folder_takes_its_name_only_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watch(path: Path) -> str:
        seen.append((tmp_path / "data").exists())
        return path.name

    monkeypatch.setattr(manifest, "sha256", watch)
    make(TEXT).save(tmp_path / "data")
    assert len(seen) == 8
    assert not any(seen)


def test_only_force_replaces_and_only_a_prepared_data_set(saved: Path, tmp_path: Path) -> None:
    data = make(LARGE)
    with pytest.raises(UsageError, match="exists already; add --force"):
        data.save(saved)
    same(with_pairs(make(TEXT)), load(saved))
    data.save(saved, force=True)
    same(data, load(saved))

    other = tmp_path / "thesis"
    other.mkdir()
    (other / "manifest.json").write_text('{"format": "another program"}')
    (other / "chapter.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="name another folder"):
            data.save(other, force=force)
    assert (other / "chapter.tex").read_text() == "years of work"
    shutil.rmtree(other)


step = st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["view", "unview", "buy"]))


@settings(max_examples=80, deadline=None)
@given(st.lists(step, max_size=25), st.booleans())
def test_an_undo_takes_back_what_came_before_it_and_doing_it_again_counts(
    steps: list[tuple[int, int, str]], timed: bool
) -> None:
    rows = [(9, 9, "view"), (9, 9, "buy"), *steps]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "behavior"], orient="row")
    if timed:  # the log comes backwards, the times tell
        stamps = pl.Series("timestamp", range(len(rows)))
        frame = frame.with_columns(stamps).reverse()
    options = ReadOptions(undo={"view": "unview"}, time_unit="ms" if timed else None)
    log = from_frame(frame, options)
    data = prepare(log, behaviors=["view", "buy"], holdout="random")
    expected: dict[str, set[tuple[int, int]]] = {"view": set(), "buy": set()}
    for user, item, behavior in rows:
        if behavior == "unview":
            expected["view"].discard((user, item))
        else:
            expected[behavior].add((user, item))
    users, items = data.users.ids.to_list(), data.items.ids.to_list()
    for name, found in zip(data.behaviors, data.records().sets, strict=True):
        pairs = zip(found.row_of_each(), found.indices, strict=True)
        assert {(users[u], items[i]) for u, i in pairs} == expected[name]
