"""`nmtr report`: one page that stands alone, tells what the run keeps, and reads no test."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nmtr.cli import run as nmtr
from nmtr.data.interactions import Interactions
from nmtr.errors import DamagedError, UsageError
from nmtr.evaluation.vectors import load_vectors
from nmtr.reports.recommended import K, recommend
from nmtr.reports.report import html, write_report
from nmtr.reports.subject import Subject
from nmtr.reports.vectors import components
from nmtr.training.run import Run, Settings, execute, open_run

Small = Callable[..., Settings]
SECTIONS = (
    "summary", "data", "funnel", "learning", "accuracy", "activity", "calibration", "lists",
    "users", "map", "settings",
)  # fmt: skip


class Page(HTMLParser):
    """Sections and their text, identifiers, what is linked to, alternatives of pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.pictures = 0
        self.words: dict[str, str] = {}
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[each] for each in ("href", "src") if each in found]
        if tag == "section":
            self._section = found["id"]
        if tag == "svg" and "aria-hidden" not in found:
            self.pictures += 1
            self.labels.append(found["aria-label"])

    def handle_data(self, data: str) -> None:
        self.words[self._section] = self.words.get(self._section, "") + data


@pytest.fixture(scope="module")
def made(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, its test read, with its report."""
    assert finished.path
    path = tmp_path_factory.mktemp("report") / "run <b>"
    shutil.copytree(finished.path, path)
    log = str(path / "TEST_READS.md")
    assert nmtr(["evaluate", str(path), "--test", "--why", "report", "--reads", log]) == 0
    assert nmtr(["report", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def text(made: Path) -> str:
    return (made / "report.html").read_text(encoding="utf-8")


def test_where_it_is_and_how_large_is_told_in_json(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert nmtr(["report", str(made), "--out", str(page), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(page), "bytes": page.stat().st_size}


def test_the_page_stands_alone(text: str) -> None:
    page = Page(text)
    assert page.links
    assert all(each[0] == "#" and each[1:] in page.ids for each in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"<script|@import|url\(|https?://", text)
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_every_section_is_there_and_begins_with_words(text: str) -> None:
    page = Page(text)
    assert [each for each in SECTIONS if each in page.words] == list(SECTIONS)
    for each in re.findall(r"<section.*?</section>", text, re.S):
        assert re.match(r"<section[^>]*><h2>[^<]+</h2>\s*<(p|ul)>", each), each[:200]


def test_every_picture_says_what_it_shows(text: str) -> None:
    page = Page(text)
    assert page.pictures >= 12
    assert all(page.labels)
    assert text.count("<figcaption>") == text.count("<figure>")


def test_means_are_those_of_the_run_s_vectors_beside_memory(made: Path, text: str) -> None:
    words = Page(text).words
    for name in ("validation", "time"):
        for model, result in load_vectors(made / f"vectors-{name}.npz").items():
            mean = result.values["all"]["ndcg@100"].mean()
            assert f"{model} {mean:.4f}" in words["accuracy"]
            assert f"{model} {mean:.4f}" in words["summary"]


def test_the_test_is_not_read(finished: Run, tmp_path: Path) -> None:
    assert finished.path
    shutil.copytree(finished.path, tmp_path / "run")
    before = {each.name for each in (tmp_path / "run").iterdir()}
    made = write_report(open_run(tmp_path / "run"))
    assert {each.name for each in (tmp_path / "run").iterdir()} == before | {"report.html"}
    assert "test, time" not in made.read_text(encoding="utf-8")


def test_it_repeats_to_the_byte(made: Path, text: str) -> None:
    assert html(Subject(open_run(made), made)) == text


def test_recommended_items_were_not_bought(finished: Run) -> None:
    assert finished.path
    subject = Subject(finished, finished.path)
    found = recommend(subject)
    assert set(found.tops) == {"nmtr-gmf", "popularity", "replay"}
    for top in found.tops.values():
        lists = top.lists(finished.data.n_items)
        assert (lists.lengths() == K).all()
        bought = found.histories.items[-1].contains(lists.row_of_each(), lists.indices)
        assert not bought.any()


@pytest.mark.parametrize("model", ["popularity", "bpr", "ease"])
def test_what_a_model_does_not_have_is_said(
    timed: Interactions, small: Small, model: str, tmp_path: Path
) -> None:
    settings = small(model, epochs=1)
    run = execute(timed, settings, tmp_path / "run")
    words = Page(html(Subject(run, tmp_path / "run"))).words
    assert "no probabilities" in words["calibration"]
    if model != "bpr":
        assert "no map" in words["map"]
        assert "no learning curves" in words["learning"]
    names = {model, "popularity", "replay"}
    assert all(each in words["lists"] for each in names)


def test_a_run_that_chose_nothing_says_what_to_do(
    timed: Interactions, small: Small, tmp_path: Path
) -> None:
    settings = small(epochs=1, select="none", calibrate=False)
    run = execute(timed, settings, tmp_path / "run")
    words = Page(html(Subject(run, tmp_path / "run"))).words
    assert "kept no ranking" in words["accuracy"]
    assert "kept no ranking" in words["activity"]
    assert "no calibration" in words["calibration"]
    assert "chose nothing" in words["learning"]


def test_one_behaviour_has_no_funnel(
    prepared: Callable[..., Interactions], small: Small, tmp_path: Path
) -> None:
    data = prepared("random", ("buy",))
    run = execute(data, small("popularity", "discovery"), tmp_path / "run")
    words = Page(html(Subject(run, tmp_path / "run"))).words
    assert "no funnel" in words["funnel"]


def test_where_it_cannot_be_written_is_said(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name a file"):
        write_report(finished, tmp_path)
    with pytest.raises(UsageError, match="save it first"):
        write_report(replace(finished, path=None))
    assert nmtr(["report", str(tmp_path)]) == 2


def test_damaged_figures_are_refused(finished: Run, tmp_path: Path) -> None:
    assert finished.path
    for name, text in (("reliability.json", '[{"bins": 3}]'), ("metrics.jsonl", "{}")):
        path = tmp_path / name
        shutil.copytree(finished.path, path)
        (path / name).write_text(text)
        with pytest.raises(DamagedError, match=name):
            write_report(open_run(path))
        assert not (path / "report.html").exists()


def test_the_map_is_that_of_the_two_largest_variances() -> None:
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(300, 2)) * [5.0, 2.0]
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    vectors = np.hstack([planted, 0.01 * rng.normal(size=(300, 4))]) @ turn + 7
    places, shares = components(vectors)
    assert shares.sum() == pytest.approx(1, abs=1e-4)
    for at in range(2):
        assert abs(np.corrcoef(places[:, at], planted[:, at])[0, 1]) > 0.99
