"""`nmtr reproduce` end to end on a small log: trained once, resumed after a kill, told in full."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from nmtr.cli import run as nmtr
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.split import split
from nmtr.evaluation.groups import Group
from nmtr.evaluation.vectors import load_vectors
from nmtr.experiments import documents, outcomes, paper, runner
from nmtr.experiments.cells import Cell, run_cell, split_for
from nmtr.experiments.claims import FAILS, HOLDS, UNKNOWN, size_verdict, together, verdict_of
from nmtr.experiments.documents import markdown
from nmtr.experiments.figure2 import falls
from nmtr.experiments.outcomes import Outcomes, value_of
from nmtr.experiments.plan import Asked, plan
from nmtr.experiments.table2 import table2
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.settings import Settings

BEHAVIORS = ("view", "cart", "buy")
ONLY = "nmtr-gmf,popularity,replay,ease-target,mc-bpr"
Says = Callable[..., str]


@pytest.fixture(scope="module")
def data(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Interactions:
    """The simulated log, a third of whose views and carts were lost: some buys have neither."""
    folder = tmp_path_factory.mktemp("reproduce")
    log = pl.read_parquet(shop / "events-*.parquet").filter(pl.col("behavior").is_in(BEHAVIORS))
    pair = pl.concat_str("user_id", pl.col("item_id").cast(pl.String), separator=" ")
    kept = log.filter((pl.col("behavior") == "buy") | (pair.hash(seed=1) % 3 > 0))
    kept.drop("timestamp").write_parquet(folder / "log.parquet")
    options = ReadOptions(behaviors=BEHAVIORS)
    events = read_events([folder / "log.parquet"], options)
    prepare(events, behaviors=BEHAVIORS, holdout="random").save(folder / "data")
    return load(folder / "data")


@pytest.fixture(scope="module")
def made(data: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All targets, quick, of a few models."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert nmtr(words(data, out)) == 0
    return out


def words(data: Interactions, out: Path, *more: object, target: str = "all") -> list[str]:
    named = ["--data", data.path, "--out", out, "--reads", out.parent / "reads.md"]
    options = ["--only", ONLY, "--draws", 1, "--quick"]
    return [str(each) for each in ("reproduce", target, *named, *options, *more)]


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_each_target_is_told_in_markdown_csv_html_and_plots(made: Path) -> None:
    for name in ("table1", "table2", "tests", "diagnostics", "table3", "figure2", "sensitivity"):
        assert (made / f"{name}.md").read_text().startswith("# ")
        assert rows(made / f"{name}.csv")
    assert rows(made / "claims.csv")
    for svg in (made / "plots").glob("*.svg"):
        ElementTree.fromstring(svg.read_text())
        assert svg.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {"table2-as-published", "table2-discovery", "figure2-as-published", "sampled"} <= {
        each.stem for each in (made / "plots").iterdir()
    }


def test_the_page_needs_no_other_file_and_repeats_no_identifier(made: Path) -> None:
    text = (made / "index.html").read_text()
    assert not re.search(
        r"(src|href)=\"(?!#|https?://)", re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    )
    found: list[str] = []

    class Ids(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(value or "" for name, value in attrs if name == "id")

    Ids().feed(text)
    assert len(found) == len(set(found))
    for used in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', text):
        assert (used[0] or used[1]) in found


def test_table_ii_tells_what_the_cells_found(made: Path) -> None:
    lines = {
        (each["model"], each["protocol"], each["slice"], each["metric"]): each
        for each in rows(made / "table2.csv")
    }
    for protocol in ("as-published", "discovery"):
        folder = made / "cells" / "nmtr-gmf_as-published_seed0"
        vectors = load_vectors(folder / f"vectors-{protocol}.npz")["nmtr-gmf"]
        ours = lines["nmtr-gmf", protocol, "all", "ndcg@100"]
        assert float(ours["ours"]) == pytest.approx(vectors.values["all"]["ndcg@100"].mean())
        assert float(ours["low"]) <= float(ours["ours"]) <= float(ours["high"])
        assert ours["paper"] == ""  # not the paper's data
    order = re.findall(r"^\| (\w[\w-]+) \| ", (made / "table2.md").read_text(), re.M)[1:6]
    means = [float(lines[each, "as-published", "all", "ndcg@100"]["ours"]) for each in order]
    assert means == sorted(means, reverse=True)


def test_ranks_and_vectors_agree(made: Path) -> None:
    folder = made / "cells" / "ease-target_as-published_seed0"
    with np.load(folder / "ranks-as-published.npz") as found:
        ranks, candidates = found["ranks"], found["candidates"]
    vectors = load_vectors(folder / "vectors-as-published.npz")["ease-target"]
    assert np.array_equal(ranks <= 10, vectors.values["all"]["hr@10"] > 0)
    assert (ranks <= candidates).all()


def test_every_read_of_the_test_is_one_line(made: Path) -> None:
    log = (made.parent / "reads.md").read_text()
    cells = sorted(each.name for each in (made / "cells").iterdir())
    told = re.findall(r"reproduce: cell (\S+), under", log)
    assert sorted(told) == cells
    assert "under as-published and discovery" in log


def test_a_finished_cell_is_not_run_again(made: Path, data: Interactions) -> None:
    before = {each: each.stat().st_mtime_ns for each in (made / "cells").rglob("*")}
    log = (made.parent / "reads.md").read_text()
    assert nmtr(words(data, made, target="figure2")) == 0
    assert {each: each.stat().st_mtime_ns for each in (made / "cells").rglob("*")} == before
    assert (made.parent / "reads.md").read_text() == log


def test_a_cell_that_was_killed_goes_on_and_the_rest_stays(
    made: Path, data: Interactions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    trained, begun = (
        out / "cells" / f"{each}_as-published_seed0" for each in ("nmtr-gmf", "mc-bpr")
    )
    weights = (trained / "model.safetensors").read_bytes()
    (trained / "cell.json").unlink()  # killed while the test was read
    known = load_vectors(begun / "vectors-as-published.npz")["mc-bpr"]
    for each in [*begun.glob("*.json"), *begun.glob("*.npz"), begun / "model.safetensors"]:
        each.unlink()  # killed in training, before a checkpoint
    assert nmtr(words(data, out, target="figure2")) == 0
    assert nmtr(words(data, out, target="sensitivity")) == 0
    assert (trained / "model.safetensors").read_bytes() == weights
    assert json.loads((trained / "cell.json").read_text())["train_seconds"] is None
    again = load_vectors(begun / "vectors-as-published.npz")["mc-bpr"]
    assert np.array_equal(again.values["all"]["ndcg@100"], known.values["all"]["ndcg@100"])
    assert len(re.findall("reproduce: cell", (tmp_path / "reads.md").read_text())) == 2


def test_a_budget_ends_it_cleanly(
    data: Interactions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nmtr(words(data, tmp_path / "out", "--budget", "1e-9")) == 0
    told = capsys.readouterr().out
    assert "0 of " in told
    assert "the same command goes on" in told
    assert "not finished yet" in (tmp_path / "out" / "table2.md").read_text()


def test_a_budget_ends_a_training_in_its_middle_and_the_next_one_goes_on(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(data, only=("nmtr-gmf",), quick=True)
    cells, folder = plan(asked, "table2"), tmp_path / "cells" / "nmtr-gmf_as-published_seed0"
    log = tmp_path / "reads.md"
    clock = iter([0.0, 0.0, 0.0, *[100.0] * 1000])  # deadline, check, first step, then too late
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert runner.run_cells(tmp_path, cells, asked, log=log, words=["x"], minutes=1.0) == 1
    assert (folder / "config.toml").exists()
    assert not (folder / "cell.json").exists()
    assert not log.exists()  # the test was not read
    monkeypatch.undo()
    assert runner.run_cells(tmp_path, cells, asked, log=log, words=["x"]) == 0
    assert (folder / "cell.json").exists()
    assert log.read_text().count("reproduce: cell") == 1


def test_on_the_papers_data_its_numbers_stand_beside_ours(
    made: Path, data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "is_papers", lambda users, items: True)
    asked = Asked(data, only=tuple(ONLY.split(",")), draws=1, quick=True)
    document = table2(Outcomes(made, asked, plan(asked, "table2")), made)
    lines = {
        each["protocol"]: each
        for each in document.data
        if (each["model"], each["slice"], each["metric"]) == ("nmtr-gmf", "all", "hr@80")
    }
    ours = lines["as-published"]
    assert ours["paper"] == 0.2721
    assert ours["difference"] == pytest.approx(ours["ours"] - 0.2721)
    assert lines["discovery"]["paper"] is None
    text = markdown(document)
    assert "<br>paper .2721, +" in text
    assert text.count("paper .0560") == 0  # NMTR-MLP was not asked for


def test_other_settings_are_refused_not_mixed(
    made: Path, data: Interactions, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each for each in words(data, made) if each != "--quick"]
    assert nmtr(given) == 2
    assert "was trained with other settings or data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "bprr"], "unknown model 'bprr'"),
        (["--presets", "amazon"], "no presets of data set 'amazon'"),
        (["--seeds", "0"], "seeds, draws and threads of 1 or more"),
        (["--budget", "0"], "minutes above 0"),
    ],
)
def test_wrong_words_are_refused(
    data: Interactions, tmp_path: Path, more: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = ["reproduce", "table2", "--data", str(data.path), "--out", str(tmp_path / "out")]
    assert nmtr([*given, *more]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_folder_of_something_else_is_refused(data: Interactions, tmp_path: Path) -> None:
    (tmp_path / "thing").write_text("x")
    assert nmtr(["reproduce", "table2", "--data", str(data.path), "--out", str(tmp_path)]) == 2
    assert nmtr(["reproduce", "table4", "--data", str(data.path), "--out", str(tmp_path)]) == 2


def test_parts_are_ranked_for_the_whole_log_s_users_with_its_mask(
    data: Interactions, tmp_path: Path
) -> None:
    cell = Cell("popularity", Settings("popularity", "as-published"), behaviors=("view", "buy"))
    called: list[int] = []
    run_cell(tmp_path, cell, data, before_read=lambda: called.append(1))
    assert called == [1]
    part = load(tmp_path / "data" / "view+buy")
    for protocol in cell.reads:
        whole, ours = split(data, protocol), split_for(cell, data, part, protocol)
        assert np.array_equal(ours.evaluation.users, whole.evaluation.users)
        assert np.array_equal(ours.evaluation.mask.keys(), whole.evaluation.mask.keys())
        assert np.array_equal(ours.evaluation.in_funnel, whole.evaluation.in_funnel)
        assert ours.train.behaviors == ("view", "buy")
        assert len(ours.evaluation.histories.items) == 2


def test_values_per_behaviour_follow_the_part() -> None:
    settings = Settings("nmtr-gmf", "as-published", {"lambdas": (1.0, 2.0, 3.0)})
    cell = Cell("nmtr-gmf", settings, behaviors=("cart", "buy"))
    assert cell.fitted(BEHAVIORS).options["lambdas"] == (2.0, 3.0)


def test_cells_are_shared_between_targets_and_their_names_are_their_own(data: Interactions) -> None:
    asked = Asked(data, seeds=2, draws=2)
    cells = {target: plan(asked, target) for target in ("table2", "table3", "figure2", "claims")}
    names = [each.name for each in cells["claims"]]
    assert len(names) == len(set(names))
    for target in ("table2", "table3", "figure2"):
        assert {each.name for each in cells[target]} <= set(names)
    assert sum(each.row == "ease" for each in cells["table2"]) == 1  # no chance in it
    assert sum(each.row == "bpr" for each in cells["table2"]) == 2


def test_every_cell_s_settings_make_its_model_presets_included(data: Interactions) -> None:
    cells = plan(Asked(data, "beibei"), "claims")
    assert {each.source for each in cells if each.row == "ease"} == {
        "preset beibei/as-published/ease"
    }
    for cell in cells:
        behaviors = cell.behaviors or BEHAVIORS
        settings = cell.fitted(BEHAVIORS)
        assert len(settings.training.negatives) in (1, len(behaviors))
        model = make(settings.model, settings.options, Shape(4, 5, behaviors))
        assert not model.trained or settings.training.epochs > model.warm_up


def test_data_cut_in_time_have_cells_of_that_protocol_alone(timed: Interactions) -> None:
    cells = plan(Asked(timed, "beibei", leak_free=True), "table2")
    assert {each.settings.protocol for each in cells} == {"time"}


def test_rows_that_differ_by_one_thing_have_no_other_settings(
    made: Path, data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "open_cell", lambda out, cell, data: {})
    cells = plan(Asked(data, "beibei"), "table2")  # two of NMTR-GMF: discovery has a preset too
    whole = Outcomes(made, Asked(data, "beibei"), cells)
    protocols = {each.settings.protocol for each in cells if each.row == "nmtr-gmf"}
    assert protocols == {"as-published", "discovery"}
    assert [each.settings.protocol for each in whole.of("nmtr-gmf", protocol="discovery")]
    assert not whole.alike.of("nmtr-gmf", protocol="discovery")
    assert whole.alike.of("nmtr-gmf") == whole.of("nmtr-gmf")


def test_a_document_of_nothing_says_so(made: Path, data: Interactions) -> None:
    asked = Asked(data, only=("ease",), quick=True)
    document = table2(Outcomes(made, asked, []), made)
    assert documents.NOTHING in markdown(document)
    assert documents.NOTHING in documents.html([document], made)
    assert documents.NOTHING not in (made / "table2.md").read_text()
    assert "below, the paper's" not in (made / "table2.md").read_text()


def test_verdicts() -> None:
    assert verdict_of(0.01, 0.1) == HOLDS
    assert verdict_of(0.01, -0.1) == FAILS
    assert verdict_of(0.2, 0.1) == UNKNOWN
    assert size_verdict(0.10, 0.05, 0.15, 0.09) == HOLDS
    assert size_verdict(0.05, 0.01, 0.08, 0.09) == FAILS
    assert size_verdict(0.08, 0.01, 0.12, 0.09) == UNKNOWN
    assert together([(HOLDS, "a"), (HOLDS, "b")]) == (HOLDS, "a; b")
    assert together([(HOLDS, "a"), (FAILS, "b")])[0] == FAILS
    assert together([(HOLDS, "a"), (UNKNOWN, "b")])[0] == UNKNOWN


def test_intervals_of_averaged_seeds_agree_with_those_of_the_reports() -> None:
    rng = np.random.default_rng(3)
    run = (rng.random(2000) < 0.3).astype(np.float64)
    one, two = value_of([run]), value_of([run, run])
    assert two.mean == one.mean == run.mean()
    assert two.seeds == (one.mean, one.mean)
    assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=0.003)
    assert one.high - one.low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 2000), rel=0.1)


def test_falls_from_the_last_group_to_the_first() -> None:
    values = np.concatenate([np.full(50, 0.2), np.full(70, 0.5)])
    groups = [Group(1, 1, np.arange(50)), Group(2, 9, np.arange(50, 120))]
    found = falls({"a": values, "b": np.ones(120)}, groups, resamples=20)
    assert found["a"] == pytest.approx(np.full(21, 0.6))
    assert found["b"] == pytest.approx(np.zeros(21))


def test_a_damaged_paired_test_is_made_again(made: Path, data: Interactions) -> None:
    outcomes = Outcomes(made, Asked(data), [])
    a, b = np.array([0.6, 0.1, 1.0, 0.8]), np.array([0.1, 0.1, 1.0, 0.2])
    before = set((made / "paired").iterdir())
    gap = outcomes.difference(a, b)
    (file,) = set((made / "paired").iterdir()) - before
    assert outcomes.difference(a, b) == gap
    file.write_text("{")
    assert outcomes.difference(a, b) == gap
    assert gap.mean == pytest.approx(0.275)
