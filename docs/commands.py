"""The help of every command, as the site's page on the command line shows it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from nmtr.cli import COMMANDS, application
from nmtr.cli.front import help_text

MARK = "<!-- every command's help -->"
WIDTH = 100


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the help of all commands in place of the mark."""
    return markdown.replace(MARK, "\n".join(_sections())) if MARK in markdown else markdown


def _sections() -> Iterator[str]:
    for words in ([], *([name] for name in COMMANDS), ["data", "get"]):
        title = " ".join(["nmtr", *words])
        yield f"## {title}\n\n```text\n{_help(words)}\n```\n"


def _help(words: list[str]) -> str:
    if not words:
        return help_text(WIDTH)
    screen = io.StringIO()
    console = Console(file=screen, width=WIDTH, no_color=True)
    application(words)([*words, "--help"], console=console, result_action="return_value")
    return "\n".join(line.rstrip() for line in screen.getvalue().strip().splitlines())
