"""The log of test reads: one line for each, written before the test is read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

LOG = "TEST_READS.md"
HEADING = "# Reads of the test\n\n| when (UTC) | command | why |\n|---|---|---|\n"


def default_log(path: Path) -> Path:
    """The log of the experiments where there is such a folder, else one in `path`."""
    shared = Path("experiments")
    return (shared if shared.is_dir() else path) / LOG


def log_read(log: Path, words: Sequence[str], why: str) -> None:
    """Add a line: when, the words of the nmtr command that reads, and why."""
    command, reason = (
        " ".join(text.split()).replace("|", "\\|") for text in (shlex.join(words), why)
    )
    line = f"| {datetime.now(UTC):%Y-%m-%d %H:%M} | `nmtr {command}` | {reason} |\n"
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        log.write_text(HEADING, encoding="utf-8")
    with log.open("a", encoding="utf-8") as stream:
        stream.write(line)
