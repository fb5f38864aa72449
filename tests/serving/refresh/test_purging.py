"""Who was erased is in no file of a home, and everyone else is served as before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tests.serving.refresh.conftest import Frames, Nightly

from nmtr.data.interactions import Interactions
from nmtr.data.vocabulary import hash_text
from nmtr.serving.archive import Archive
from nmtr.serving.bundle import check_bundle, open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.recommender import Recommender
from nmtr.serving.refresh.candidate import Maker
from nmtr.serving.refresh.gathering import VISITOR
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.purging import write_without
from nmtr.serving.refresh.retiring import OVERDUE
from nmtr.serving.store import Event, Store
from nmtr.training.run import Run, Settings, execute

ALICE, COOKIE = "Alice-Liddell-of-Oxford", "cookie-7f3a9c"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "data" / "store.db") as opened:
        yield opened


def in_bytes(texts: list[bytes], folder: Path) -> list[str]:
    found: list[str] = []
    for each in texts:
        pattern = "".join(f"\\x{byte:02x}" for byte in each)
        done = subprocess.run(
            ["grep", "-r", "-l", "-a", "-P", pattern, str(folder)], capture_output=True, text=True,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.stderr == ""
        found += done.stdout.split()
    return found


def known(home: Home) -> set[str]:
    """Every id in the files of a home, unpacked."""
    frames = [pl.read_parquet(each)["user_id"] for each in home.frames()]
    frames += [open_bundle(each).data.users.ids for each in home.bundles.iterdir()]
    return {text for each in frames for text in each.cast(pl.String).to_list()}


@pytest.mark.parametrize("name", ["nmtr-gmf", "nmtr-features", "lightgcn", "itemknn"])
def test_a_bundle_less_some_users_answers_the_others_as_before(
    name: str, timed: Interactions, small: Callable[..., Settings], tmp_path: Path
) -> None:
    kinds = pl.DataFrame({"kind": [f"k{each % 7}" for each in range(timed.n_users)]})
    run = execute(replace(timed, user_attributes=kinds), small(name, epochs=1, calibrate=False))
    write_bundle(run, tmp_path / "b.nmtr", trained=run.split().train)
    before = open_bundle(tmp_path / "b.nmtr")
    keep = np.ones(timed.n_users, np.bool_)
    keep[[0, 17, timed.n_users - 1]] = False
    others = timed.users.take(np.flatnonzero(keep)[:40])
    expected = Recommender.of(before).recommend(others, k=5)
    write_without(before, keep, tmp_path / "b.nmtr", deadline=5)
    check_bundle(tmp_path / "b.nmtr")
    after = open_bundle(tmp_path / "b.nmtr")
    found = Recommender.of(after).recommend(others, k=5)
    trained = pl.col("basis") == "model"  # others start from the mean user, who is another now
    assert expected.filter(trained).height > 50
    assert_frame_equal(found.filter(trained), expected.filter(trained))
    assert after.manifest["users"] == timed.n_users - 3
    assert after.manifest[OVERDUE] == 5
    assert after.fingerprint != before.fingerprint
    assert after.counts()[0].sum() == before.counts()[0].sum() - sum(
        before.data.sets[0].lengths()[~keep]
    )


def test_the_erased_leave_every_file_by_the_next_refresh(
    home: Home, days: Frames, nightly: Nightly, store: Store
) -> None:
    def renamed(low: int, high: int) -> pl.DataFrame:
        someone = days(0, 40)["user_id"].value_counts().sort("count", "user_id")["user_id"][-1]
        user = pl.col("user_id")
        return days(low, high).with_columns(
            user_id=pl.when(user == someone).then(pl.lit(ALICE)).otherwise(user)
        )

    items = [str(each) for each in days(0, 1)["item_id"].unique().sort().to_list()]
    at = int(days(38, 39)["timestamp"][0]) * 1000
    store.append([Event(each, "view", visitor_id=COOKIE, timestamp=at) for each in items[:5]])
    store.append([Event(each, "view", visitor_id="other", timestamp=at) for each in items[:5]])
    nightly(renamed(0, 40), 40, {"store": store})
    nightly(
        renamed(40, 45), 45, {"store": store}, model="nmtr-gmf", set=("embedding=8", "epochs=2")
    )
    first, second = sorted(home.bundles.iterdir())
    assert {ALICE, VISITOR + COOKIE, VISITOR + "other"} <= known(home)
    digest = hash_text(ALICE).to_bytes(8, "little")
    assert in_bytes([digest], home.path)
    tensor = open_bundle(second).model.state_dict()["user"]
    index = int(open_bundle(second).data.users.indices([ALICE])[0])
    weights = tensor[index].numpy().tobytes()
    assert in_bytes([weights], home.path)

    store.merge(visitor_id=COOKIE, user_id=ALICE)
    store.erase(ALICE)
    assert ALICE in known(home)
    found = nightly(renamed(45, 46), 46, {"store": store})  # Alice is in the new file too
    assert found.outcome == "promoted"
    assert VISITOR + "other" in known(home)
    assert not {ALICE, VISITOR + COOKIE} & known(home)
    secrets = [ALICE.encode(), COOKIE.encode(), digest, weights]
    assert in_bytes(secrets, home.path) == []
    for each in home.bundles.iterdir():
        check_bundle(each)
        assert (OVERDUE in Archive(each).manifest) == (each in (first, second))


def test_who_is_erased_while_it_trains_is_not_in_what_comes_of_it(
    home: Home, days: Frames, nightly: Nightly, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = days(0, 40)["user_id"][0]
    real = Maker.make

    def make(self: Maker) -> object:
        found = real(self)
        store.erase(someone)
        return found

    monkeypatch.setattr(Maker, "make", make)
    nightly(days(0, 40), 40, {"store": store})
    assert someone not in known(home)
    assert in_bytes([someone.encode()], home.path) == []


def test_a_night_cut_off_before_an_erasure_is_given_up(
    home: Home, days: Frames, nightly: Nightly, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = days(0, 40)["user_id"][0]

    def dies(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Maker, "make", dies)
        with pytest.raises(SystemExit):
            nightly(days(0, 40), 40, {"store": store})
    assert (home.night / "data").exists()
    store.erase(someone)
    nightly(None, 40, {"store": store})
    assert someone not in known(home)


def test_the_weights_of_an_erased_user_are_cut_out_by_their_place(
    finished: Run, tmp_path: Path
) -> None:
    write_bundle(finished, tmp_path / "b.nmtr")
    bundle = open_bundle(tmp_path / "b.nmtr")
    keep = np.arange(finished.data.n_users) != 3
    write_without(bundle, keep, tmp_path / "c.nmtr")
    found = open_bundle(tmp_path / "c.nmtr").model.state_dict()
    for name, each in bundle.model.state_dict().items():
        expected = each[torch.from_numpy(keep)] if name == "user" else each
        assert torch.equal(found[name], expected)
