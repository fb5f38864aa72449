"""A bundle stands alone: what a run knows, without the run or its data; or it is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from nmtr.data.interactions import Interactions
from nmtr.errors import DamagedError, UsageError
from nmtr.models import make
from nmtr.serving import bundle as serving
from nmtr.serving.archive import MANIFEST, _checksum, write_archive
from nmtr.serving.bundle import Bundle, check_bundle, open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.recommender import Recommender
from nmtr.training.run import Run, Settings, execute, open_run


@pytest.fixture(scope="module")
def bundled(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.nmtr"
    catalogue = pl.DataFrame({"category": [f"c{n % 3}" for n in range(finished.data.n_items)]})
    write_bundle(finished, path, catalogue=catalogue)
    return path


@pytest.fixture(scope="module")
def opened(bundled: Path) -> Bundle:
    return open_bundle(bundled)


def test_a_bundle_recommends_what_its_run_does_with_the_run_and_the_data_gone(
    finished: Run, tmp_path: Path
) -> None:
    assert finished.path
    assert finished.data.path
    shutil.copytree(finished.data.path, tmp_path / "data")
    shutil.copytree(finished.path, tmp_path / "run")
    run = open_run(tmp_path / "run", data=tmp_path / "data")
    users = pl.concat([run.data.users.ids.head(50), pl.Series(["nobody"])])
    expected = Recommender.of(run).recommend(users, k=7)
    write_bundle(run, tmp_path / "model.nmtr")
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / "data")
    found = Recommender.of(open_bundle(tmp_path / "model.nmtr")).recommend(users, k=7)
    assert_frame_equal(found, expected)


def test_it_holds_what_the_run_knows(finished: Run, opened: Bundle) -> None:
    data = finished.data
    assert opened.settings == finished.settings
    assert opened.calibration == finished.calibration
    assert opened.manifest["behaviors"] == list(data.behaviors)
    assert opened.manifest["data"] == data.fingerprint()
    assert opened.manifest["last_event"] == int(data.time.max())  # type: ignore[union-attr]
    assert np.array_equal(opened.trained_users(), finished.trained_users())
    assert opened.data.users.ids.equals(data.users.ids)
    for mine, theirs in zip(opened.data.records().sets, data.records().sets, strict=True):
        assert np.array_equal(mine.indptr, theirs.indptr)
        assert np.array_equal(mine.indices, theirs.indices)
    counts = [each.column_counts() for each in data.records().sets]
    assert np.array_equal(opened.counts(), counts)
    for name, tensor in finished.model.state_dict().items():
        assert torch.equal(opened.model.state_dict()[name], tensor)
    assert [each["phase"] for each in opened.reports["epochs"]].count("selection") == 3
    assert opened.reports["audit"]["verdicts"]
    assert opened.catalogue is not None
    assert opened.catalogue["category"].to_list()[:4] == ["c0", "c1", "c2", "c0"]


def test_times_are_those_of_each_pair_s_last_target_event(finished: Run, opened: Bundle) -> None:
    data = finished.data
    last: dict[tuple[int, int], int] = {}
    assert data.time is not None
    for user, item, code, time in zip(data.user, data.item, data.code, data.time, strict=True):
        if code == len(data.behaviors) - 1:
            last[int(user), int(item)] = max(int(time), last.get((int(user), int(item)), 0))
    target = opened.data.records().target
    assert opened.target_time is not None
    pairs = zip(target.row_of_each().tolist(), target.indices.tolist(), strict=True)
    assert opened.target_time.tolist() == [last[pair] for pair in pairs]


def test_a_fingerprint_tells_models_apart_and_not_the_hour(
    finished: Run, opened: Bundle, tmp_path: Path
) -> None:
    again = write_bundle(finished, tmp_path / "again.nmtr")
    assert again == opened.fingerprint
    untrained = make("nmtr-gmf", {"embedding": 8}, finished.model.shape)
    other = replace(finished, model=untrained)
    assert write_bundle(replace(other, path=None), tmp_path / "other.nmtr") != again


@pytest.mark.parametrize(
    "name", ["popularity", "ease", "neumf", "nmtr-neumf", "cmf", "bpr", "lightgcn"]
)
@pytest.mark.parametrize("large", [False, True])
def test_every_kind_of_model_opens_with_its_weights_where_they_lie(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, name: str, large: bool,
) -> None:  # fmt: skip
    run = execute(timed, small(name, epochs=1, calibrate=False))
    write_bundle(run, tmp_path / "m.nmtr")
    monkeypatch.setattr(serving, "LARGE", 0 if large else 2**40)
    before = torch.get_rng_state()
    found = open_bundle(tmp_path / "m.nmtr")
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(each.is_meta for each in found.model.buffers())
    users = timed.users.ids.head(20)
    expected = Recommender.of(run).recommend(users, k=5)
    assert_frame_equal(Recommender.of(found).recommend(users, k=5), expected)


@pytest.fixture
def parts(bundled: Path, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts of a bundle, to be written again, and its manifest."""
    with zipfile.ZipFile(bundled) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(found.pop(MANIFEST))
    return found, {name: each for name, each in manifest.items() if name not in ("parts", "sha256")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2, "nmtr": "9.9"}, r"schema 2, written by nmtr 9\.9; this nmtr .* reads 1"),
        ({"format": "other"}, "its format is 'other', expected 'nmtr-bundle'"),
        ({"users": 7}, "its parts do not fit each other .*different numbers of users"),
        ({"behaviors": ["view"]}, "model.safetensors|do not fit"),
    ],
)
def test_another_version_or_what_does_not_fit_is_refused_with_the_reason(
    parts: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, change: Any, words: str
) -> None:
    found, about = parts
    write_archive(tmp_path / "x.nmtr", found, {**about, **change})
    with pytest.raises(DamagedError, match=words):
        open_bundle(tmp_path / "x.nmtr")


def test_a_missing_part_and_other_weights_are_refused(
    parts: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    found, about = parts
    without = {name: part for name, part in found.items() if name != "trained.npy"}
    write_archive(tmp_path / "x.nmtr", {**without, "item_0.npy": b"nonsense"}, about)
    with pytest.raises(DamagedError, match=r"item_0\.npy: cannot be read"):
        open_bundle(tmp_path / "x.nmtr")
    config = found["config.toml"].replace(b"embedding = 8", b"embedding = 9")
    write_archive(tmp_path / "y.nmtr", {**found, "config.toml": config}, about)
    with pytest.raises(DamagedError, match="do not fit each other"):
        open_bundle(tmp_path / "y.nmtr")


def test_a_large_bundle_is_checked_only_when_asked(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(bundled.read_bytes())
    with zipfile.ZipFile(bundled) as archive:
        place = content.index(archive.read("model.safetensors"))
        size = archive.getinfo("model.safetensors").file_size
    content[place + size - 1] ^= 1
    path = tmp_path / "x.nmtr"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"model\.safetensors: expected sha256"):
        open_bundle(path)
    monkeypatch.setattr(serving, "CHECKED_ON_OPEN", 0)
    open_bundle(path)
    with pytest.raises(DamagedError, match=r"model\.safetensors: expected sha256"):
        check_bundle(path)


def test_what_is_no_bundle_is_refused_with_advice(finished: Run, tmp_path: Path) -> None:
    assert finished.path
    with pytest.raises(UsageError, match=r"is a folder; make a bundle with `nmtr bundle"):
        open_bundle(finished.path)
    with pytest.raises(UsageError, match="no such bundle"):
        open_bundle(tmp_path / "gone")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_text("")
    for name in ("text", "empty"):
        with pytest.raises(DamagedError, match="is no bundle, or is cut off"):
            open_bundle(tmp_path / name)
    with pytest.raises(UsageError, match="name a file"):
        write_bundle(finished, tmp_path)


def test_a_failed_write_leaves_the_old_bundle(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmtr.serving import bundling

    path = tmp_path / "model.nmtr"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(bundling, "write_archive", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bundle(finished, path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["model.nmtr"]


def test_the_manifest_s_own_checksum_is_that_of_all_else_it_states(bundled: Path) -> None:
    with zipfile.ZipFile(bundled) as archive:
        manifest = json.loads(archive.read(MANIFEST))
    assert manifest["sha256"] == _checksum(manifest)
