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
import pytest

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.evaluation.vectors import load_vectors
from nmtr.experiments import documents, paper, runner
from nmtr.experiments.documents import markdown
from nmtr.experiments.outcomes import Outcomes
from nmtr.experiments.plan import Asked, plan
from nmtr.experiments.table2 import table2

BEHAVIORS = ("view", "cart", "buy")
ONLY = "nmtr-gmf,popularity,replay,ease-target,mc-bpr"
Says = Callable[..., str]


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


def test_a_document_of_nothing_says_so(made: Path, data: Interactions) -> None:
    asked = Asked(data, only=("ease",), quick=True)
    document = table2(Outcomes(made, asked, []), made)
    assert documents.NOTHING in markdown(document)
    assert documents.NOTHING in documents.html([document], made)
    assert documents.NOTHING not in (made / "table2.md").read_text()
    assert "below, the paper's" not in (made / "table2.md").read_text()
