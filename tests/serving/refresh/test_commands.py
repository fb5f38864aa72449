"""`nmtr refresh` as it is typed: what it says, what it keeps, how it ends."""

from __future__ import annotations

import json
import os
import time
import tomllib
from pathlib import Path

import polars as pl
import pytest
from tests.serving.refresh.conftest import Frames

from nmtr.cli import run
from nmtr.data.events import ReadOptions
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.options import Options

ON = ["--behaviors", "view,cart,buy", "--model", "popularity", "--window", "5", "--margin", "1",
      "--least-users", "5"]  # fmt: skip


def written(midnight: int, day: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(midnight / 1000 + day * 86400))


@pytest.fixture(autouse=True)
def _as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda _: 0)


def test_the_commands(
    home: Home, days: Frames, tmp_path: Path, midnight: int, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = str(home.path)
    assert run(["refresh", place, "--status"]) == 2
    assert "begin with" in capsys.readouterr().err
    assert run(["refresh", place, "--events", "x.csv"]) == 2
    assert "--behaviors" in capsys.readouterr().err

    days(0, 40).write_parquet(tmp_path / "log.parquet")
    first = [
        *ON, "--events", str(tmp_path / "log.parquet"), "--now", written(midnight, 40),
    ]  # fmt: skip
    assert run(["refresh", place, *first, "--dry-run"]) == 0
    assert "events pass the checks" in capsys.readouterr().out
    assert not home.path.exists()
    assert run(["refresh", place, *first]) == 0
    assert "promoted: it is the first" in capsys.readouterr().out
    days(40, 45).write_parquet(tmp_path / "more.parquet")
    later = ["--events", str(tmp_path / "more.parquet"), "--now", written(midnight, 45)]
    assert run(["refresh", place, *later, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "promoted"
    assert run(["refresh", place, "--roll-back"]) == 0
    assert run(["refresh", place, "--roll-back"]) == 1
    assert run(["refresh", place, "--pin"]) == 0
    capsys.readouterr()
    assert run(["refresh", place, "--status"]) == 0
    assert "rolled back" in capsys.readouterr().out
    assert run(["refresh", place, "--purge"]) == 2
    assert run(["refresh", place, "--pin", "--status"]) == 2
    assert run(["refresh", place, "--now", "tomorrow"]) == 2
    assert run(["refresh", place, "--data", str(tmp_path)]) == 2
    assert "holds no store" in capsys.readouterr().err
    days(45, 46).filter(pl.col("behavior") != "buy").write_parquet(tmp_path / "more.parquet")
    assert run(["refresh", place, *later[:3], written(midnight, 46)]) == 1
    assert "missing: " in capsys.readouterr().err


def test_rows_that_cannot_be_read_are_refused_or_left_out_and_counted(
    home: Home, days: Frames, tmp_path: Path, midnight: int, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    log = tmp_path / "log.csv"
    days(0, 40).write_csv(log, separator=";", include_header=False)
    log.write_text(log.read_text() + ";7;buy;1\n" * 3)
    words = ["refresh", str(home.path), *ON, "--events", str(log), "--now", written(midnight, 40),
             "--dry-run", "--columns", "user_id,item_id,behavior,timestamp"]  # fmt: skip
    assert run([*words, "--delimiter", ";"]) == 1
    assert "--malformed drop" in capsys.readouterr().err
    assert run([*words, "--delimiter", ";", "--malformed", "drop"]) == 0
    assert "left out: 3 missing user" in "".join(capsys.readouterr())


def test_how_files_are_read_says_nothing_of_the_store() -> None:
    options = Options(
        behaviors=("view", "buy"), user="who", columns=("who", "item"), delimiter="tab",
        time_unit="s", malformed="drop", unknown="drop", map=("order=buy",),
    )  # fmt: skip
    of_files, of_store = options.reading(), options.reading(file=False)
    assert (of_files.user, of_files.time_unit, of_files.malformed) == ("who", "s", "drop")
    assert of_store == ReadOptions(
        rename={"order": "buy"}, behaviors=("view", "buy"), unknown="drop"
    )


def test_with_quiet_nothing_but_the_result_is_said_and_with_json_it_is_json(
    home: Home, days: Frames, tmp_path: Path, midnight: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(home.path)
    days(0, 40).write_parquet(tmp_path / "log.parquet")
    days(40, 45).write_parquet(tmp_path / "more.parquet")
    log, more = (str(tmp_path / f"{each}.parquet") for each in ("log", "more"))
    assert run(["refresh", place, *ON, "--events", log, "--now", written(midnight, 40)]) == 0
    assert "training popularity from nothing" in capsys.readouterr().err
    later = ["refresh", place, "--events", more, "--now", written(midnight, 45)]

    assert run([*later, "--dry-run", "--json"]) == 0
    looked = json.loads(capsys.readouterr().out)
    assert (looked["new"], looked["events"]) == (True, days(0, 45).unique().height)
    assert run([*later, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0].startswith("promoted: ")
    for each in ("--roll-back", "--pin", "--status"):
        assert run(["refresh", place, each, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["served"] == home.served()
        assert found["retire_by"] is None
    assert [each["outcome"] for each in found["history"][-2:]] == ["rolled back", "pinned"]


def test_the_options_of_a_first_refresh_that_could_not_be_read_are_not_kept(
    home: Home, days: Frames, tmp_path: Path, midnight: int, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    raw = days(0, 40).with_columns(pl.col("behavior").replace({"buy": "transaction"}))
    raw.write_parquet("log.parquet")
    days(0, 1).select("item_id").unique().with_columns(category=pl.lit("c")).write_csv("items.csv")
    words = ["refresh", str(home.path), *ON, "--events", "log.parquet", "--items", "items.csv"]
    words += ["--now", written(midnight, 40)]
    assert run(words) == 2 or run(words) == 1
    assert "transaction" in capsys.readouterr().err
    assert not home.options.exists()
    assert run([*words, "--map", "transaction=buy"]) == 0
    kept = tomllib.loads(home.options.read_text())
    assert kept["map"] == ["transaction=buy"]
    assert kept["items"] == str(tmp_path / "items.csv"), "a timer works elsewhere"
    assert run(["refresh", str(home.path), "--set", "x=1", "--now", "never"]) == 2
    assert home.options.exists()


def test_the_options_stay_where_the_checks_refuse(
    home: Home, days: Frames, tmp_path: Path, midnight: int, capsys: pytest.CaptureFixture[str]
) -> None:
    days(0, 40).write_parquet(tmp_path / "log.parquet")
    events = ["--events", str(tmp_path / "log.parquet"), "--now", written(midnight, 50)]
    assert run(["refresh", str(home.path), *ON, *events]) == 1
    assert "--accept stale" in capsys.readouterr().err
    assert run(["refresh", str(home.path), *events, "--accept", "stale"]) == 0
