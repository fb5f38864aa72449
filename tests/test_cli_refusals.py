"""Wrong uses of the command line that are met seldom: each ends with 2, and says what is meant."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nmtr.cli import engine, overview
from nmtr.cli import run as nmtr
from nmtr.errors import UsageError
from nmtr.serving.bundling import write_bundle
from nmtr.training.run import Run

Says = Callable[..., str]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """What a command prints, both streams; it must end with the expected exit code."""

    def call(*words: object, code: int = 2) -> str:
        capsys.readouterr()
        found = nmtr([str(each) for each in words])
        out, err = capsys.readouterr()
        assert found == code, out + err
        return out if code == 0 else err

    return call


@pytest.fixture(scope="module")
def bundle(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refusals") / "model.nmtr"
    write_bundle(finished, path)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recommend", "BUNDLE", "--users", "u000001", "--data", "DATA"], "which needs no --data"),
        (["recommend", "BUNDLE", "--users", "@LATIN"], "LATIN: expected UTF-8 text, an id a line"),
        (["recommend", "BUNDLE", "--users", "a", "--in-stock", "LATIN"], "expected UTF-8 text"),
        (["recommend", "BUNDLE", "--users", "a", "--engine", "ray"], "--engine ray needs a file"),
        (["train", "DATA", "--out", "NEW", "--engine", "ray"], "a model that is named: --model"),
        (["train", "DATA", "--out", "NEW", "--engine", "ray", "--workers", "0"], "or more, got 0"),
        (["bundle", "--check", "DATA"], "DATA is a folder; make a bundle"),
        (["bundle", "BUNDLE", "--out", "NEW"], "it is a file, and a run is the folder that"),
        (["refresh", "NEW", "--window", "2"], "refresh: name the behaviours at the first"),
        (["simulate", "DATA"], "expected a new or empty folder, but DATA"),
        (["simulate", "NEW", "--users", "0"], "users must be from 1 to 1000000000, got 0"),
        (["refresh", "NEW", "--status", "--pin"], "expected one of --dry-run, --status"),
        (["refresh", "NEW", "--behaviors", "a,b", "--now", "dawn"], "-01-31T03:00, got 'dawn'"),
        (["serve"], "nmtr: serve: name a bundle to serve"),
        (["serve", "m.nmtr", "--port", "99999"], "nmtr: serve: port: expected 0 to 65535"),
        (["refresh", "NEW", "--behaviors", "a,b", "--margin", "2"], "nmtr: refresh: margin"),
        (["data", "gte", "beibei"], 'Did you mean "get"'),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_use_is_said_before_anything_is_made(
    says: Says, bundle: Path, finished: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # Ray, as it were
    (tmp_path / "latin").write_bytes("caf\xe9\n".encode("latin-1"))
    places = {
        "BUNDLE": bundle, "DATA": finished.data.path, "NEW": tmp_path / "new",
        "LATIN": tmp_path / "latin",
    }  # fmt: skip
    for name, place in places.items():
        words = [each.replace(name, str(place)) for each in words]
        said = said.replace(name, str(place))
    assert said in says(*words)
    assert not (tmp_path / "new").exists()


def test_a_shell_that_cannot_be_told_is_asked_for(
    says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyclopts.completion import detect

    def unknown() -> None:
        raise detect.ShellDetectionError("none")

    monkeypatch.setattr("cyclopts.completion.detect_shell", unknown)
    assert "which shell? nmtr completion bash, zsh or fish" in says("completion")


def test_several_processes_are_told_a_model() -> None:
    engine.check_named(True)
    with pytest.raises(UsageError, match="several processes train a model that is named"):
        engine.check_named(False)


def test_one_unknown_user_does_not_make_strangers_of_the_others(says: Says, tmp_path: Path) -> None:
    """Ids of this log are integers, which `nobody` is not."""
    log = tmp_path / "log.csv"
    rows = [f"{user},{item},buy,{9 * user + item}" for user in range(5) for item in range(user, 7)]
    log.write_text("\n".join(["user_id,item_id,behavior,timestamp", *rows, "9,1,view,99"]))
    data, run = tmp_path / "data", tmp_path / "run"
    says("prepare", log, "--behaviors", "view,buy", "--out", data, "--time-unit", "ms", code=0)
    says("train", data, "--out", run, "--model", "popularity", code=0)
    asked = ("recommend", run, "-k", "3", "--json", "--users")
    alone = json.loads(says(*asked, "3", code=0))
    among = json.loads(says(*asked, "3,nobody", code=0))
    assert [each["item_id"] for each in alone] == [2, 1, 0]
    mine = [each for each in among if str(each["user_id"]) == "3"]
    assert [(each["item_id"], each["basis"]) for each in mine] == [
        (each["item_id"], each["basis"]) for each in alone
    ]
    assert {each["basis"] for each in among if each["user_id"] == "nobody"} == {"popular"}


def test_what_others_call_manifest_and_config_is_not_taken_for_ours(
    finished: Run, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "logs").mkdir(parents=True)
    (site / "manifest.json").write_text('{"name": "A web page", "icons": []}')
    (site / "config.toml").write_text('title = "A blog"\n')
    (site / "logs" / "events.csv").touch()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_bytes(b"\xff\xfe")
    assert finished.path
    shutil.copytree(finished.path, tmp_path / "run")
    found = overview.look(tmp_path)
    assert (found.data, found.unfinished, found.runs) == ([], [], ["run"])
    assert found.logs == ["site/logs/events.csv"]
