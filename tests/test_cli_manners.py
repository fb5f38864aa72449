"""The command line tells where one is, what was meant, and what it will not take in silence."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from nmtr.cli import COMMANDS, front, overview
from nmtr.cli import run as nmtr
from nmtr.cli.recommend import show_rows
from nmtr.data.interactions import Interactions
from nmtr.options import closest
from nmtr.training.run import Run, Settings

Says = Callable[..., str]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """What a command prints, both streams; it must end with the expected exit code."""

    def call(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        found = nmtr([str(each) for each in words])
        out, err = capsys.readouterr()
        assert found == code, out + err
        return out + err

    return call


@pytest.fixture
def again(finished: Run, tmp_path: Path) -> list[object]:
    """The command that made the finished run, in a copy of it."""
    assert finished.path
    shutil.copytree(finished.path, tmp_path / "run")
    data = finished.data.path
    return [
        "train",
        data,
        "--out",
        tmp_path / "run",
        "--model",
        "nmtr-gmf",
        "-s",
        "embedding=8",
        "-s",
        "epochs=3",
    ]


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("NMTR-GMF", ["ease", "nmtr-gmf"], "nmtr-gmf"),
        ("leak_free", ["leak-free", "last"], "leak-free"),
        ("trian", ["train", "tune"], "train"),
        ("zzz", ["train"], None),
    ],
)
def test_what_was_meant_is_found_whatever_its_case(
    name: str, known: list[str], meant: str | None
) -> None:
    assert closest(name, known) == meant


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["TRIAN"], "did you mean 'train'"),
        (["train", "DATA", "--out", "NEW", "--MODLE", "ease"], "Did you mean --model"),
        (["train", "DATA", "--out", "NEW", "--model", "EASE"], "did you mean 'ease'"),
        (["train", "DATA", "--out", "NEW", "--protocol", "Tiem"], "did you mean 'time'"),
        (["train", "DATA", "--out", "NEW", "--preset", "Paper"], "did you mean 'paper'"),
        (["data", "get", "BeiBei", "--out", "NEW"], "did you mean 'beibei'"),
        (
            ["train", "DATA", "--out", "NEW", "--model", "nmtr-gmf", "-s", "layers=8"],
            "GMF, which has no MLP",
        ),
        (["train", "DATA", "--out", "NEW", "--model", "ease", "-s", "epochs=3"], "without epochs"),
        (["train", "DATA", "--out", "NEW", "--model", "bpr", "-s", "optimizer=sgd"], "sweeps"),
        (["tune", "DATA", "--out", "NEW", "--model", "ease", "-s", "epochs=3"], "without epochs"),
        (["export", "RUN"], "--onnx FILE"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_answered_with_what_was_meant(
    says: Says, finished: Run, tmp_path: Path, words: list[str], meant: str
) -> None:
    places = {"DATA": finished.data.path, "NEW": tmp_path / "new", "RUN": finished.path}
    assert meant in says(*(places.get(each, each) for each in words), code=2)
    assert not (tmp_path / "new").exists()


def test_a_mistyped_behaviour_is_named_beside_the_log_s(says: Says, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,behavior\na,b,view\n")
    words = ["prepare", tmp_path / "log.csv", "--behaviors", "veiw,buy", "--out", tmp_path / "d"]
    assert "did you mean 'view' by 'veiw'?" in says(*words, code=1)


def test_a_finished_run_asked_for_again_is_done(says: Says, again: list[object]) -> None:
    assert "this very run, finished" in says(*again)
    assert says(*again, "--quiet") == ""
    found = json.loads(says(*again, "--json"))
    assert (found["model"], found["options"]["embedding"]) == ("nmtr-gmf", 8)


def test_a_finished_run_of_other_settings_says_which_differ(
    says: Says, again: list[object]
) -> None:
    assert "seed 0, not 1" in says(*again, "-s", "seed=1", code=2)


def test_a_run_stopped_before_its_first_checkpoint_says_that_it_begins_anew(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmtr.cli.beginning import begins

    assert finished.path
    shutil.copy(finished.path / "config.toml", tmp_path)
    assert begins(finished.data, Settings(), tmp_path, {})
    assert "begins anew" in capsys.readouterr().out


def test_nmtr_alone_finds_what_lies_here_and_says_what_comes_next(
    says: Says, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nmtr demo" in says()
    for name in ("Catalog.csv", "items.parquet", "log.csv"):
        (tmp_path / name).touch()
    found = json.loads(says("--json"))
    assert found["logs"] == ["log.csv"], "a catalogue is no log"
    assert "nmtr prepare log.csv" in says()
    assert finished.data.path
    assert finished.path
    shutil.copytree(finished.data.path, tmp_path / "data")
    assert "nmtr train data --out run" in says()
    (tmp_path / "half").mkdir()
    shutil.copy(finished.path / "config.toml", tmp_path / "half")
    assert "--config half/config.toml --out half" in says()
    shutil.copytree(finished.path, tmp_path / "my run")
    (tmp_path / "m.nmtr").touch()
    found = json.loads(says("--json"))
    assert (found["runs"], found["unfinished"], found["bundles"]) == (
        ["my run"],
        ["half"],
        ["m.nmtr"],
    )
    assert "nmtr serve m.nmtr" in found["next"]
    bundles = tmp_path / "shop-home" / "bundles"
    bundles.mkdir(parents=True)
    (bundles / "1.nmtr").touch()
    (tmp_path / "shop-home" / "current.nmtr").symlink_to("bundles/1.nmtr")
    (tmp_path / "shop-home" / "refresh.toml").write_text('behaviors = [\n    "buy",\n]\n')
    found = json.loads(says("--json"))
    assert (found["homes"], found["bundles"]) == (["shop-home"], ["m.nmtr"])
    served = ["nmtr refresh shop-home --status", "nmtr serve shop-home/current.nmtr"]
    assert found["next"][-2:] == served


def test_a_folder_without_end_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST", 3)
    for n in range(5):
        (tmp_path / f"{n}").mkdir()
    assert overview.look(tmp_path).cut_short


@pytest.mark.parametrize("width", [40, 100])
def test_the_list_of_commands_fits_the_screen(width: int) -> None:
    lines = front.help_text(width).splitlines()[1:]
    assert max(map(len, lines)) <= width
    assert any(line.split()[:1] == ["train"] for line in lines)


@pytest.mark.parametrize("words", [["--help"], ["--version"], []], ids=str)
def test_the_front_starts_without_a_parser(words: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom nmtr.cli import run\nrun(sys.argv[1:])\n"
        "print([m for m in ('cyclopts', 'rich', 'torch') if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, *words]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.stderr.strip() == "[]"


def test_an_interrupted_training_says_how_to_go_on(
    says: Says, timed: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmtr.training.run.execute", interrupt)
    words = ["train", str(timed.path), "--out", str(tmp_path / "run")]
    assert f"nmtr {' '.join(words)}" in says(*words, code=130).replace("\n", " ")


def test_a_narrow_screen_folds_ids_and_cuts_none(
    says: Says, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmtr.cli.show.console.width", 40)
    assert "…" not in says("recommend", finished.path, "--users", "u000001", "-k", 2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_the_commands_to_complete(says: Says, shell: str) -> None:
    script = says("completion", shell)
    assert "recommend" in script
    assert json.loads(says("completion", shell, "--json"))["script"].strip() == script.strip()


def test_every_command_that_ends_by_itself_can_answer_in_json() -> None:
    places = {name: place for name, (place, _) in COMMANDS.items()}
    places["data get"] = "nmtr.cli.logs:get"
    lacking = []
    for name, place in places.items():
        module, function = place.split(":")
        asked = inspect.signature(getattr(importlib.import_module(module), function)).parameters
        if "json" not in asked:
            lacking.append(name)
    assert lacking == ["serve"]


def test_the_demo_tells_every_step_in_json(says: Says, tmp_path: Path) -> None:
    words = ["demo", "--out", tmp_path / "demo", "--events", 3000, "--json"]
    found = json.loads(says(*words))
    steps = {each["command"].split()[1]: each["result"] for each in found["steps"]}
    assert list(steps) == ["simulate", "prepare", "audit", "train", "evaluate", "recommend"]
    assert steps["prepare"]["behaviors"] == ["view", "cart", "buy"]
    assert steps["train"]["run"] == str(tmp_path / "demo" / "run")
    assert {"nmtr-gmf", "popularity", "replay"} <= steps["evaluate"]["models"].keys()
    ranks = [each["rank"] for each in steps["recommend"] if each["user_id"] == "nobody"]
    assert ranks == [1, 2, 3, 4, 5]
    assert any("--model nmtr-neumf" in each for each in found["next"])
    assert "remove it, or name another folder" in says(*words, code=2)


def test_ids_are_printed_whole_where_no_terminal_breaks_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "a" * 60 + "[bold]" + "z" * 60
    frame = pl.DataFrame({
        "user_id": ["u1", "u2"], "rank": [1, 1], "item_id": [long, "7"], "score": [0.5, 59.0],
        "p_buy": [0.25, float("nan")], "basis": ["model", "popular"],
    })  # fmt: skip
    show_rows(frame)
    lines = capsys.readouterr().out.splitlines()
    first, second = [each for each in lines if each.split()][-2:]
    assert first.split() == ["u1", "1", long, "0.5000", "0.2500", "model"]
    assert second.split() == ["u2", "1", "7", "59.0000", "-", "popular"]


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [(OSError("disk full"), 1, "disk full"), (KeyboardInterrupt(), 130, "begins anew")],
    ids=["failed", "interrupted"],
)
def test_a_demo_that_does_not_end_leaves_no_folder(
    failure: BaseException,
    code: int,
    told: str,
    says: Says,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def simulate(shop: Path, **_: object) -> None:
        (shop / "truth").mkdir(parents=True)
        raise failure

    monkeypatch.setattr("nmtr.cli.simulate.simulate", simulate)
    assert told in says("demo", "--out", tmp_path / "demo", code=code)
    assert list(tmp_path.iterdir()) == [], "so that the same command can begin anew"


def test_the_doctor_names_what_does_not_work(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no model today")

    monkeypatch.setattr("nmtr.cli.doctor._self_test", broken)
    found = says("doctor", code=1)
    assert "failed  self test" in found
    assert "no model today" in found
    assert "ok      python" in found
