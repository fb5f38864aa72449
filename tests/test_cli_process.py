"""The command as a process of its own: what it imports, and what a closed pipe does to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nmtr.data.interactions import Interactions


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["train", "--help"], ["tune", "--help"]]
)
def test_help_comes_without_the_heavy_imports(words: list[str]) -> None:
    script = (
        "import sys\nfrom nmtr.cli import run\ncode = run(sys.argv[1:])\n"
        "heavy = [each for each in ('torch', 'polars', 'numba', 'optuna') if each in sys.modules]\n"
        "print(heavy, file=sys.stderr)\nsys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert (found.returncode, found.stderr.strip()) == (0, "[]")


@pytest.mark.parametrize("words", [["audit"], ["audit", "--json"], ["--help"]], ids=" ".join)
def test_a_reader_who_leaves_early_is_no_failure(timed: Interactions, words: list[str]) -> None:
    script = "import sys\nfrom nmtr.cli import main\nsys.stdin.read()\nmain()"
    command = [sys.executable, "-c", script, *words, *([str(timed.path)] * ("audit" in words))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.close()  # only now the command begins
        assert process.stderr.read() == b""
    assert process.returncode == 0
