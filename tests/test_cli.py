"""The command line does the main job, and says what to do where it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.training.run import Run

Says = Callable[..., str]
SMALL = ("-s", "embedding=4", "-s", "epochs=1")


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """What a command prints; it must end with the expected exit code and no traceback."""

    def call(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        found = nmtr([str(each) for each in words])
        out, err = capsys.readouterr()
        assert found == code, out + err
        assert "Traceback" not in out + err
        assert "This should not happen" not in err
        return out if code == 0 else err

    return call


@pytest.fixture(scope="module")
def made(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, to which reports may be written."""
    assert finished.path
    path = tmp_path_factory.mktemp("cli") / "run"
    shutil.copytree(finished.path, path)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of a few events in CSV."""
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,item_id,behavior,timestamp\n"
        "ann,pen,view,1\nann,pen,buy,2\nann,ink,view,3\nann,ink,buy,9\n"
        "bob,ink,view,4\nbob,ink,buy,5\nbob,pen,view,6\nbob,pen,buy,8\n"
    )
    return path


def test_a_simulated_shop_ends_with_the_day_that_is_asked_for(says: Says, tmp_path: Path) -> None:
    asked = ("--users", 40, "--items", 20, "--events", 3000, "--days", 10)
    says("simulate", tmp_path / "shop", *asked, "--until", "2024-03-01")
    time = pl.read_parquet(tmp_path / "shop" / "events-*.parquet")["timestamp"]
    days = pl.from_epoch(time, time_unit="ms").dt.date()
    assert (str(days.min()), str(days.max())) == ("2024-02-21", "2024-03-01")
    said = says("simulate", tmp_path / "no", *asked, "--until", "tomorrow", code=2)
    assert "--until: expected a day" in said


def test_the_main_job_from_a_simulated_log_to_recommendations(says: Says, tmp_path: Path) -> None:
    shop, data, run, reads = (tmp_path / name for name in ("shop", "data", "run", "reads.md"))
    says("simulate", shop, "--users", 120, "--items", 60, "--events", 5000)
    prepared = says(
        "prepare", f"{shop}/events-*.parquet", "--behaviors", "view,cart,buy", "--unknown", "drop",
        "--out", data,
    )  # fmt: skip
    assert f"Next: nmtr audit {data}" in prepared
    assert json.loads(says("audit", data, "--json"))
    assert "buy" in says("audit", data)
    assert f"Run in {run}" in says("train", data, "--out", run, "--model", "nmtr-gmf", *SMALL)
    validation = says("evaluate", run)
    assert "<- chosen" in validation
    assert "replay" in validation
    assert "popularity" in says("evaluate", run, "--test", "--why", "a test", "--reads", reads)
    assert (run / "report-time.json").exists()
    shown = says("recommend", run, "--users", "u000001,nobody", "-k", 3)
    assert "user nobody is not in the log; these are popular items" in shown
    rows = json.loads(says("recommend", run, "--users", "u000001,nobody", "-k", 3, "--json"))
    assert [(each["user_id"], each["rank"]) for each in rows] == [
        (user, rank) for user in ("u000001", "nobody") for rank in (1, 2, 3)
    ]
    says("recommend", run, "--all", "--out", tmp_path / "recs.parquet", "-k", 3)
    frame = pl.read_parquet(tmp_path / "recs.parquet")
    assert frame.get_column("user_id").n_unique() > 100
    assert frame.get_column("rank").max() == 3


def test_a_bundle_recommends_without_its_run_and_by_rules(
    says: Says, made: Path, tmp_path: Path
) -> None:
    model, items, rules = (tmp_path / name for name in ("m.nmtr", "items.csv", "rules.json"))
    found = json.loads(says("recommend", made, "--users", "u000001", "-k", 40, "--json"))
    known = [each["item_id"] for each in found]
    lines = [f"{item},{'a' if n % 2 else 'b'}\n" for n, item in enumerate(known)]
    items.write_text("sku,category\n" + "".join(lines))
    said = says("bundle", made, "--out", model, "--items", items)
    assert "the catalogue has 40 of the items" in said
    assert f"Next: nmtr recommend {model}" in said
    assert "every part is as it was written" in says("bundle", "--check", model)
    assert json.loads(says("bundle", "--check", model, "--json"))["schema"] == 1
    rules.write_text(json.dumps({"deny": [{"column": "category", "in": ["a"]}]}))
    (tmp_path / "stock.txt").write_text("\n".join(map(str, known[:9])))
    shown = says(
        "recommend", model, "--users", "u000001", "--rules", rules, "--in-stock",
        tmp_path / "stock.txt", "--json",
    )  # fmt: skip
    assert [each["item_id"] for each in json.loads(shown)] == known[0:9:2]
    says("recommend", model, "--all", "--slice", "in-funnel", "--out", tmp_path / "r.parquet")
    assert pl.read_parquet(tmp_path / "r.parquet").height > 0


def test_every_read_of_the_test_is_one_line_in_the_log(
    says: Says, made: Path, tmp_path: Path
) -> None:
    reads = tmp_path / "reads.md"
    for why in ("first look", "a | b\nc"):
        says("evaluate", made, "--test", "--why", why, "--reads", reads)
    says("evaluate", made)  # validation is no read of the test
    lines = [each for each in reads.read_text().splitlines() if "nmtr evaluate" in each]
    assert len(lines) == 2
    assert lines[0].endswith("| first look |")
    assert lines[1].endswith("| a \\| b c |")
    assert json.loads(says("evaluate", made, "--test", "--why", "json", "--reads", reads, "--json"))
    assert reads.read_text().count("nmtr evaluate") == 3


def test_the_evaluation_of_the_selection_is_json_too(says: Says, made: Path) -> None:
    found = json.loads(says("evaluate", made, "--json"))
    assert [each["epoch"] for each in found["selection"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "trian"),
        (["prepare", "LOG", "--behaviors", "view,buy"], "--out"),
        (["prepare", "LOG", "--behaviors", "view,buy", "--out", "NEW", "--cap", "x"], "--cap"),
        (["prepare", "LOG", "--behaviors", "view,buy", "--out", "NEW", "--time-unit", "h"], "ms"),
        (["prepare", "GONE", "--behaviors", "view,buy", "--out", "NEW"], "gone.csv"),
        (["prepare", "LOG", "--behaviors", "view,buy", "--out", "NEW", "--user", "who"], "user_id"),
        (["prepare", "LOG", "--behaviors", "view,buy", "--out", "DATA"], "--force"),
        (["prepare", "LOG", "--behaviors", "auto", "--out", "NEW"], "the target last"),
        (["prepare", "LOG", "--behaviors", "view,buy", "--out", "NEW", "--undo", "x"], "NAME=VALU"),
        (["audit", "RUN"], "nmtr prepare"),
        (["train", "--out", "NEW"], "nmtr train DATA --out RUN"),
        (["train", "RUN", "--out", "NEW"], "nmtr prepare"),
        (["train", "DATA", "--out", "RUN", "--model", "ease"], "name another folder"),
        (["train", "DATA", "--out", "DATA"], "name another folder"),
        (["train", "DATA", "--out", "NEW", "--model", "nmtr-gfm"], "nmtr-gmf"),
        (
            ["train", "DATA", "--out", "NEW", "--model", "gmf", "-s", "embeding=4"],
            "did you mean 'embedding'",
        ),
        (["train", "DATA", "--out", "NEW", "-s", "embedding=4"], "name a --model for options"),
        (["train", "DATA", "--out", "NEW", "--budget", "ten"], "as 90s, 10m or 1h, got 'ten'"),
        (["train", "DATA", "--out", "NEW", "-s", "epochs=many"], "epochs"),
        (["train", "DATA", "--out", "NEW", "-s", "epochs"], "NAME=VALUE"),
        (["train", "DATA", "--out", "NEW", "-s", "select=auc@10"], "ndcg"),
        (["train", "DATA", "--out", "NEW", "--protocol", "random"], "one of as-published"),
        (["train", "DATA", "--out", "NEW", "--protocol", "leak-free"], "time"),
        (["train", "DATA", "--out", "NEW", "--preset", "best"], "paper"),
        (["train", "DATA", "--out", "NEW", "--preset", "paper", "--config", "LOG"], "not both"),
        (["train", "DATA", "--out", "NEW", "--config", "LOG"], "not valid TOML"),
        (["bundle", "RUN"], "nmtr bundle RUN --out model.nmtr"),
        (["bundle", "DATA", "--out", "NEW"], "--out RUN"),
        (["bundle", "RUN", "--out", "DATA"], "name a file"),
        (["bundle", "RUN", "--out", "NEW", "--items", "GONE"], "no such catalogue"),
        (["bundle", "RUN", "--check", "NEW"], "nothing else with it"),
        (["bundle", "--check", "NEW"], "no such bundle"),
        (["recommend", "RUN", "--users", "a", "--rules", "LOG"], "cannot be read as JSON"),
        (["recommend", "RUN", "--users", "a", "--in-stock", "GONE"], "no such file"),
        (["recommend", "RUN", "--users", "a", "--in-stock", "LOG"], "names none of the items"),
        (["recommend", "RUN", "--users", "a", "--slice", "old"], "slice"),
        (["evaluate", "DATA"], "--out RUN"),
        (["evaluate", "NEW"], "nmtr train DATA"),
        (["evaluate", "RUN", "--test"], "--why"),
        (["evaluate", "RUN", "--test", "--why", " "], "--why"),
        (["evaluate", "RUN", "--why", "curious"], "add --test"),
        (["evaluate", "RUN", "--test", "--why", "x", "--protocol", "last"], "--protocol last"),
        (["evaluate", "RUN", "--test", "--why", "x", "--protocol", "lats"], "one of as-published"),
        (["recommend", "RUN"], "--users"),
        (["recommend", "RUN", "--users", "u000001", "--all", "--out", "NEW"], "--all"),
        (["recommend", "RUN", "--all"], "--out recs.parquet"),
        (["recommend", "RUN", "--users", "u000001", "-k", "0"], "k"),
        (["recommend", "RUN", "--users", ","], "names no user"),
        (["recommend", "RUN", "--users", "@GONE"], "no such file"),
        (["recommend", "DATA", "--users", "u000001"], "--out RUN"),
        (["data", "get", "movielens", "--out", "NEW"], "beibei"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_says_what_to_do_instead(
    says: Says, made: Path, timed: Interactions, log: Path, words: list[str], message: str
) -> None:
    places = {"LOG": log, "RUN": made, "DATA": timed.path, "NEW": log.parent / "new"}
    places["GONE"] = log.parent / "gone.csv"
    given = [
        str(places[each]) if each in places else each.replace("@GONE", f"@{places['GONE']}")
        for each in words
    ]
    assert message in says(*given, code=2)
    assert not (log.parent / "new").exists()


def test_a_behaviour_that_nobody_named_is_no_guess(says: Says, log: Path) -> None:
    found = says("prepare", log, "--behaviors", "buy", "--out", log.parent / "new", code=1)
    assert "log.csv line 2: behaviour 'view' is not in ['buy']" in found
    assert "--unknown drop" in found


@pytest.mark.parametrize("content", ["", "user_id,item_id,behavior,timestamp\n"])
def test_an_empty_log_is_refused_by_name(says: Says, tmp_path: Path, content: str) -> None:
    (tmp_path / "empty.csv").write_text(content)
    words = ["prepare", tmp_path / "empty.csv", "--behaviors", "view,buy", "--out", tmp_path / "d"]
    assert "empty.csv" in says(*words, code=1)
    assert not (tmp_path / "d").exists()


def test_an_order_that_the_data_show_is_taken_by_auto(
    says: Says, shop: Path, tmp_path: Path
) -> None:
    log = pl.read_parquet(f"{shop}/events-*.parquet")
    log = log.filter(pl.col("behavior").is_in(["view", "cart", "buy"]))
    log.write_parquet(tmp_path / "log.parquet")
    words = ["prepare", tmp_path / "log.parquet", "--behaviors", "auto", "--out", tmp_path / "data"]
    assert "behaviours: view,cart,buy" in says(*words)


def test_a_day_is_appended_once(says: Says, log: Path, tmp_path: Path) -> None:
    data, day = tmp_path / "data", tmp_path / "day.csv"
    says("prepare", log, "--behaviors", "view,buy", "--out", data)
    day.write_text("user_id,item_id,behavior,timestamp\neve,pen,view,12\n")
    words = ("prepare", "--append", day, "--out", data)
    said = says(*words)
    assert f"1 events appended to {data}: 9 of 3 users x 2 items" in said
    assert "before the newest" not in said
    assert f"{data} has these events already; nothing was appended" in says(*words)
    assert json.loads(says(*words, "--json")) == {"appended": None}
    late = tmp_path / "late.csv"
    late.write_text("user_id,item_id,behavior,timestamp\neve,pen,view,5\n")
    said = says("prepare", "--append", late, "--out", data)
    assert "late.csv has events from before the newest that were there" in said
    assert "got both" in says("prepare", log, "--append", day, "--out", data, code=2)
    assert "expected event files and --behaviors" in says("prepare", "--out", data, code=2)
    assert "no prepared data set" in says("prepare", "--append", day, "--out", tmp_path, code=2)


def test_one_flipped_byte_of_a_prepared_data_set_is_noticed(
    says: Says, timed: Interactions, tmp_path: Path
) -> None:
    assert timed.path
    data = tmp_path / "data"
    shutil.copytree(timed.path, data)
    largest = max(data.iterdir(), key=lambda each: each.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    found = says("train", data, "--out", tmp_path / "run", code=1)
    assert largest.name in found
    assert "prepare" in found
    assert not (tmp_path / "run").exists()


def test_a_traceback_comes_only_with_debug(made: Path) -> None:
    from nmtr.errors import UsageError

    with pytest.raises(UsageError, match="--users"):
        nmtr(["recommend", str(made), "--debug"])


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("odd"), 1, "--debug shows where"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
    ids=["interrupt", "bug", "disk"],
)
def test_what_goes_wrong_inside_a_command_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    timed: Interactions,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("nmtr.data.interactions.load", fail)
    assert nmtr(["audit", str(timed.path)]) == code
    assert message in capsys.readouterr().err
