"""What a home keeps, and goes back to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nmtr.errors import DamagedError, NmtrError, UsageError
from nmtr.serving.archive import write_archive
from nmtr.serving.refresh.home import PROMOTED, Home
from nmtr.serving.refresh.soundness import mend


@pytest.fixture
def filled(home: Home) -> Home:
    """Four bundles, promoted one after the other."""
    home.bundles.mkdir(parents=True)
    for name in ("1.nmtr", "2.nmtr", "3.nmtr", "4.nmtr"):
        (home.bundles / name).write_text(name)
        with home.switching():
            home.serve(name, PROMOTED)
    return home


def test_it_goes_back_step_by_step_and_forth_by_promotion(filled: Home) -> None:
    assert filled.current.read_text() == "4.nmtr"
    assert [filled.roll_back(), filled.roll_back()] == ["3.nmtr", "2.nmtr"]
    assert filled.current.read_text() == "2.nmtr"
    (filled.bundles / "5.nmtr").write_text("5")
    with filled.switching():
        filled.serve("5.nmtr", PROMOTED)
    assert filled.roll_back() == "2.nmtr", "what it was rolled back from is passed over"
    assert filled.roll_back() == "1.nmtr"
    with pytest.raises(NmtrError, match="keeps no bundle from before"):
        filled.roll_back()
    assert filled.served() == "1.nmtr"


def test_what_is_served_and_the_anchor_are_never_pruned(filled: Home) -> None:
    filled.pin("1.nmtr")
    filled.prune(2)
    assert sorted(each.name for each in filled.bundles.iterdir()) == ["1.nmtr", "3.nmtr", "4.nmtr"]
    filled.roll_back()
    filled.pin()
    filled.prune(1)
    assert filled.pinned() == filled.served() == "3.nmtr"
    assert sorted(each.name for each in filled.bundles.iterdir()) == ["3.nmtr", "4.nmtr"]


def test_a_bundle_that_was_put_there_is_taken_over(home: Home, tmp_path: Path) -> None:
    home.path.mkdir()
    home.current.write_text("made by hand")
    home.adopt()
    assert home.current.is_symlink()
    assert home.current.read_text() == "made by hand"
    assert home.served() == home.past()[0]["bundle"]
    home.adopt()
    assert len(home.past()) == 1
    moved = Home(Path(shutil.move(home.path, tmp_path / "moved")))
    assert moved.current.read_text() == "made by hand", "the links are relative"


def test_a_bundle_that_was_linked_there_is_copied(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.nmtr").write_text("made by hand")
    home.path.mkdir()
    home.current.symlink_to(tmp_path / "elsewhere.nmtr")
    home.adopt()
    (tmp_path / "elsewhere.nmtr").unlink()
    assert home.current.read_text() == "made by hand"
    assert (home.bundles / str(home.served())).exists()


def test_nothing_to_pin_and_a_damaged_history_are_said(home: Home) -> None:
    with pytest.raises(UsageError, match="begin with"):
        home.expect()
    home.path.mkdir()
    with pytest.raises(UsageError, match="no bundle yet"):
        home.pin()
    home.history.write_text("{}\nnot json\n")
    with pytest.raises(DamagedError, match="cannot be read"):
        home.past()


def test_what_a_kill_left_half_written_goes_when_the_next_one_begins(filled: Home) -> None:
    left = [
        filled.bundles / ".1.nmtr.0123abcd.tmp", filled.bundles / ".abcdefgh.tmp" / "weights",
        filled.log / ".night.parquet.0123abcd.tmp", filled.night / ".data.0123abcd.tmp" / "users",
        filled.path / ".bots.parquet.0123abcd.tmp", filled.path / ".night.0123abcd.old" / "data",
    ]  # fmt: skip
    whole = [filled.log / "night.parquet", filled.night / "night.json", filled.bots]
    for each in (*left, *whole):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text("alice")
    with filled.working():
        assert not [each for each in left if each.exists()]
        assert not list(filled.path.rglob("*.tmp"))
        assert all(each.exists() for each in whole)
        assert len(list(filled.bundles.iterdir())) == 4
        assert filled.current.read_text() == "4.nmtr"


@pytest.fixture
def sound(home: Home) -> Home:
    """Three archives, the first the anchor, the last served."""
    home.bundles.mkdir(parents=True)
    for name in ("1.nmtr", "2.nmtr", "3.nmtr"):
        write_archive(home.bundles / name, {"part": b"contents"}, {"schema": 1})
        with home.switching():
            home.serve(name, PROMOTED)
    home.pin("1.nmtr")
    return home


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"contents")] ^= 1
    path.write_bytes(content)


def test_a_damaged_bundle_that_nobody_needs_stops_no_night(sound: Home) -> None:
    damaged(sound.bundles / "2.nmtr")
    said: list[str] = []
    mend(sound, say=said.append)
    assert sorted(each.name for each in sound.bundles.iterdir()) == ["1.nmtr", "3.nmtr"]
    assert len(said) == 1
    assert "2.nmtr" in said[0]
    assert sound.roll_back() == "1.nmtr", "what is gone is passed over"


def test_a_damaged_bundle_that_is_served_or_the_anchor_says_the_way_out(sound: Home) -> None:
    damaged(sound.bundles / "3.nmtr")
    with pytest.raises(DamagedError, match="--roll-back"):
        mend(sound)
    assert sound.roll_back() == "2.nmtr"
    mend(sound)
    assert not (sound.bundles / "3.nmtr").exists(), "it is served no more"
    (sound.bundles / "1.nmtr").unlink()
    with pytest.raises(DamagedError, match=r"is gone\n1.nmtr: it is the anchor: .*--pin"):
        mend(sound)
    assert sound.pin() == "2.nmtr"
    mend(sound)
    damaged(sound.bundles / "2.nmtr")
    with pytest.raises(DamagedError, match="--roll-back"):
        mend(sound)
