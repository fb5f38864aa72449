"""Every block of code in the README and the docs runs as it stands, page by page.

A page's `sh` and `python` blocks run in order in one folder, which holds what the pages take for
granted: a log, events.csv, and its catalogue, items.csv; that log prepared, `data`, and a run on
it, `run`, unless the page makes them; and the shop that `make demo` leaves. A block with
title="PATH" is a file, written there. What cannot run here says why, on the line before it:

    <!-- not run: downloads 300 MB -->
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import nmtr.models
from nmtr.cli import run
from nmtr.data.interactions import Interactions, load
from nmtr.training.run import execute
from nmtr.training.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?"
    r"```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
INDENTED = re.compile(
    r"^ {4}(?:(?:nmtr|make|pip|python|curl) |from \w+ import|import ).*", re.MULTILINE
)
RUN = ("sh", "python")
SHOWN = ("", "text", "toml", "json", "sql")
SHELL = re.compile(r"[|<>;&$`]")  # what only a shell understands


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text; a file's name; why it is not run."""

    place: str
    language: str
    body: str
    file: str
    why: str


def blocks(text: str, page: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', found["info"])
        line = text.count("\n", 0, found.start("body"))
        yield Block(
            f"{page}:{line}",
            found["language"],
            found["body"],
            title[1] if title else "",
            found["why"] or "",
        )


def commands(body: str) -> list[list[str]] | None:
    """The words of each command of a block that holds nothing but plain `nmtr` commands."""
    lines = body.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if not SHELL.search(line)]
    words = [each for each in words if each]
    plain = len(lines) == sum(not SHELL.search(line) for line in lines)
    return words if plain and all(each[0] == "nmtr" for each in words) else None


def run_shell(block: Block) -> None:
    """Commands of nmtr run in this process, which has loaded torch; anything else in a shell."""
    for words in (plain := commands(block.body)) or []:
        assert run(words[1:]) == 0, f"{block.place}: {shlex.join(words)}"
    if plain is None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.body],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def desk(
    shop: Path,
    timed: Interactions,
    small: Callable[..., Settings],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with what the pages take for granted."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(shop, folder / "demo" / "shop")
    pl.read_parquet(shop / "events-*.parquet").write_csv(folder / "events.csv")
    names = pl.DataFrame({"item_id": timed.items.ids}).with_columns(name=pl.col("item_id"))
    names.write_csv(folder / "items.csv")
    shutil.copytree(timed.path or "", folder / "data")
    execute(load(folder / "data"), small(), folder / "run")
    return folder


@pytest.fixture
def folder(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's own folder, the current one; models that it writes are found there."""
    path = Path(shutil.copytree(desk, tmp_path / "page"))
    monkeypatch.chdir(path)
    monkeypatch.setattr(os, "nice", lambda _: 0)  # what a refresh makes of this process would stay
    places = [*nmtr.models.__path__, str(path / "src" / "nmtr" / "models")]
    monkeypatch.setattr(nmtr.models, "__path__", places)
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, folder: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for made in ("data", "run"):
        if re.search(rf"^nmtr .*--out {made}\b", text, re.MULTILINE):
            shutil.rmtree(folder / made)
    names: dict[str, object] = {}
    for block in blocks(text, page.name):
        if block.file:
            file = folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body, encoding="utf-8")
        elif block.why or block.language not in RUN:
            continue
        elif block.language == "sh":
            run_shell(block)
        else:
            exec(compile(block.body, block.place, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_of_a_page_is_run_or_told_apart(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = list(blocks(text, page.name))
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(found)
    assert not INDENTED.findall(FENCE.sub("", text)), "code stands in a fence, so that it is run"
    assert "<!-- not run" not in FENCE.sub("", text), "it stands on the line before a fence"
    for block in found:
        assert block.language in (*RUN, *SHOWN), f"{block.place}: what runs is sh or python"


def test_blocks_are_told_from_each_other() -> None:
    text = (
        "```sh\nnmtr audit data  # says\n```\n"
        "<!-- not run: long -->\n```sh\nmake bench\n```\n"
        '```python title="a.py"\nx = 1\n```\n```text\n$\n```\n'
    )
    found = list(blocks(text, "p"))
    assert [block.place for block in found] == ["p:1", "p:5", "p:8", "p:11"]
    assert [block.why for block in found] == ["", "long", "", ""]
    assert [block.file for block in found] == ["", "", "a.py", ""]
    assert commands(found[0].body) == [["nmtr", "audit", "data"]]
    assert commands(found[1].body) is None
    assert commands("nmtr audit data | head\n") is None
    assert commands("nmtr train a \\\n  --out b\n") == [["nmtr", "train", "a", "--out", "b"]]


def test_a_block_that_fails_is_found(folder: Path) -> None:
    for body in ("nmtr audit nowhere\n", "false\ntrue\n"):
        with pytest.raises(AssertionError, match="p:1: "):
            run_shell(Block("p:1", "sh", body, "", ""))


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
