"""`nmtr tune` from the command line, and the settings that come with nmtr."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmtr.cli import run as nmtr
from nmtr.cli import runs
from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.training import presets

Says = Callable[..., tuple[str, str]]
FEW = ("--trials", "2", "--no-widen", "-s", "embedding=4", "-s", "epochs=1", "-s", "threads=1")


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """What a command prints, and what it says beside; it must end with the expected exit code."""

    def call(*words: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        found = nmtr([str(each) for each in words])
        out, err = capsys.readouterr()
        assert found == code, out + err
        assert "Traceback" not in out + err
        assert "This should not happen" not in err
        return out, err

    return call


def test_a_study_is_shown_with_its_winner_and_what_comes_next(
    says: Says, timed: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    out, err = says("tune", timed.path, "--out", study, *FEW)
    assert "nmtr-gmf, time: the best trials by ndcg@100, validation" in out
    assert "2 trials (2 complete)" in out
    assert "--set epochs=2" in out  # the best epoch was the last
    assert f"Next: nmtr train {timed.path} --config {study / 'best.toml'} --out RUN" in out
    assert "the settings as given" in err
    again = says("tune", timed.path, "--out", study, *FEW)[1]
    assert "holds a study of 2 trial(s): going on with it" in again
    _, err = says("tune", timed.path, "--out", study, *FEW, "--set", "seed=1", code=2)
    assert "holds a study of something else" in err
    assert "going on with it" not in err
    out, err = says("tune", timed.path, "--out", study, *FEW, "--json")
    assert json.loads(out)["best"]["trial"] in (0, 1)
    assert "going on" not in err
    assert "trial " not in err  # none was made again

    folder = tmp_path / "presets"
    (folder / "shop" / "time").mkdir(parents=True)
    shutil.copy(study / "best.toml", folder / "shop" / "time" / "nmtr-gmf.toml")
    monkeypatch.setattr(presets, "PRESETS", folder)
    says("train", timed.path, "--preset", "shop/time/nmtr-gmf", "--out", tmp_path / "run")
    _, err = says("train", timed.path, "--preset", "shop", "--out", tmp_path / "no", code=2)
    assert "unknown preset 'shop'; one of shop/time/nmtr-gmf" in err


def test_every_preset_is_settings_that_can_be_read() -> None:
    assert "paper" in presets.presets()
    for name in presets.presets():
        settings, place = runs.find_settings(name, None)
        assert place is None
        parts = name.removesuffix("-target").rsplit("/", 2)[1:]
        assert name == "paper" or parts == [settings.protocol, settings.model]
    with pytest.raises(UsageError, match="unknown preset"):
        runs.find_settings("../pyproject", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "NEW"], "nmtr tune DATA --out STUDY"),
        (["DATA"], "--out"),
        (["DATA", "--out", "NEW", "--trials", "0"], "1 trial or more"),
        (["DATA", "--out", "NEW", "--minutes", "-1"], "minutes above 0"),
        (["DATA", "--out", "NEW", "--model", "replay"], "replay has no options to tune"),
        (["DATA", "--out", "NEW", "--model", "nmtr-gfm"], "nmtr-gmf"),
        (["DATA", "--out", "NEW", "-s", "embeding=4"], "did you mean 'embedding'"),
        (["DATA", "--out", "NEW", "-s", "select=none"], "select=ndcg@100"),
        (["DATA", "--out", "DATA"], "name another folder"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_to_do_instead(
    says: Says, timed: Interactions, tmp_path: Path, words: list[str], message: str
) -> None:
    places = {"DATA": str(timed.path), "NEW": str(tmp_path / "new")}
    assert message in says("tune", *(places.get(each, each) for each in words), code=2)[1]
    assert not (tmp_path / "new").exists()


def test_an_interrupted_study_says_that_it_can_be_taken_up(
    says: Says, timed: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmtr.training.trainer import train

    made: list[Any] = []

    def interrupt(*given: Any, **how: Any) -> Any:
        made.append(given)
        if len(made) == 2:
            raise KeyboardInterrupt
        return train(*given, **how)

    monkeypatch.setattr("nmtr.training.tune.train", interrupt)
    words = ("tune", timed.path, "--out", tmp_path / "study", *FEW)
    _, err = says(*words, code=130)
    assert "keeps what was tried; the same command goes on with it" in err
    assert (tmp_path / "study" / "best.toml").exists()
    assert "3 trials (2 complete, 1 interrupted)" in says(*words)[0]
    assert len(made) == 3


def test_no_winner_is_a_failure(says: Says, timed: Interactions, tmp_path: Path) -> None:
    words = ("tune", timed.path, "--out", tmp_path / "study", "--model", "bpr", *FEW)
    _, err = says(*words, "-s", "learning_rate=1e20", "-s", "epochs=3", code=1)
    assert "training diverged" in err
