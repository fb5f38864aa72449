"""A run's folder opens where it is whole and refuses where it is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from nmtr.data.interactions import Interactions, load
from nmtr.errors import DamagedError, UsageError
from nmtr.training.run import Run, Settings, execute, open_run, save_run

Small = Callable[..., Settings]
Prepared = Callable[..., Interactions]


def test_weights_can_be_read_by_whoever_can_read_the_settings(finished: Run) -> None:
    assert finished.path
    modes = {(finished.path / name).stat().st_mode for name in ("config.toml", "model.safetensors")}
    assert len(modes) == 1


def test_a_run_is_not_written_into_a_folder_of_something_else(
    timed: Interactions, small: Small
) -> None:
    assert timed.path
    before = sorted(timed.path.iterdir())
    with pytest.raises(UsageError, match="holds something else"):
        execute(timed, small(), timed.path)
    assert sorted(timed.path.iterdir()) == before


def test_other_data_than_the_run_was_trained_on_are_refused(
    timed: Interactions, finished: Run, prepared: Prepared, tmp_path: Path
) -> None:
    assert finished.path
    with pytest.raises(DamagedError, match="trained on other data"):
        open_run(finished.path, data=prepared("time:0.8").path)


def test_moved_data_are_named_with_data(timed: Interactions, small: Small, tmp_path: Path) -> None:
    assert timed.path
    data, moved, run = (tmp_path / name for name in ("data", "moved", "run"))
    shutil.copytree(timed.path, data)
    execute(load(data), small("popularity"), run)
    data.rename(moved)
    with pytest.raises(UsageError, match="name it with --data"):
        open_run(run)
    assert open_run(run, data=moved).data.n_users == timed.n_users


def test_a_run_moves_as_one_with_the_data_inside_it(
    timed: Interactions, small: Small, tmp_path: Path
) -> None:
    assert timed.path
    run = tmp_path / "run"
    made = execute(timed, small("popularity"))
    run.mkdir()
    shutil.copytree(timed.path, run / "data")
    save_run(replace(made, data=load(run / "data")), run)
    run.rename(tmp_path / "elsewhere")
    assert open_run(tmp_path / "elsewhere").data.path == tmp_path / "elsewhere" / "data"


def test_damaged_weights_are_refused(finished: Run, tmp_path: Path) -> None:
    assert finished.path
    shutil.copytree(finished.path, tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedError, match="train again"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("text", ["[]", "{", '{"slope": [1], "prior": [1], "offset": [1]}'])
def test_a_damaged_calibration_is_refused(finished: Run, tmp_path: Path, text: str) -> None:
    assert finished.path
    shutil.copytree(finished.path, tmp_path / "run")
    (tmp_path / "run" / "calibration.json").write_text(text)
    with pytest.raises(DamagedError, match="delete it to show scores only"):
        open_run(tmp_path / "run")


def test_a_user_s_events_after_the_cut_do_not_make_them_a_trained_user(finished: Run) -> None:
    trained = finished.trained_users()
    cut = finished.data.holdout["cut"]
    assert finished.data.time is not None
    early = pl.Series(finished.data.user[finished.data.time < cut]).unique()
    assert set(early.to_list()) == set(trained.nonzero()[0].tolist())


def test_a_finished_run_is_not_written_over(finished: Run, small: Small) -> None:
    assert finished.path
    before = (finished.path / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="finished run"):
        execute(finished.data, small(), finished.path)
    assert (finished.path / "model.safetensors").read_bytes() == before
