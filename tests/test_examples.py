"""Every example runs as a script and says what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


PROMISED = {
    "first_model": r"nmtr +ndcg@10 0\.\d+",
    "comparing_models": r"95 % between",
    "adding_a_model": r"weighted +ndcg@10 0\.\d+",
    "what_if": r"a view raised the item for (9\d|100) of 100 users\n.*again for (8\d|9\d|100), ",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert found.returncode == 0, found.stderr
    assert re.search(PROMISED[path.stem], found.stdout), found.stdout


def test_there_are_examples() -> None:
    assert {each.stem for each in EXAMPLES} == PROMISED.keys()
