"""What is answered before a parser is loaded: the list of commands, and a mistyped one."""

from __future__ import annotations

import shutil
import textwrap

from nmtr.cli import COMMANDS, EPILOGUE
from nmtr.errors import UsageError

TITLE = "nmtr: recommendations that learn from everything users do: view, cart, buy."
USAGE = (
    "nmtr COMMAND [ARGUMENTS]; nmtr COMMAND --help says what one takes; nmtr alone, where you are."
)
ALSO = {"data get": "download and verify a named public data set"}


def help_text(width: int | None = None) -> str:
    """The help of the whole, not wider than the screen."""
    width = width or min(shutil.get_terminal_size().columns, 100)
    commands = {name: summary for name, (_, summary) in COMMANDS.items()} | ALSO
    longest = max(map(len, commands))
    lines = [TITLE, "", *textwrap.wrap(USAGE, width), ""]
    for name, summary in commands.items():
        indent = " " * (longest + 4)
        lines += textwrap.wrap(
            f"  {name:<{longest}}  {summary}",
            max(width, longest + 20),
            subsequent_indent=indent,
            drop_whitespace=True,
        )
    return "\n".join([*lines, "", *textwrap.wrap(EPILOGUE, width)])


def check_command(word: str) -> None:
    """Raise UsageError for a command that there is not, with the one that was likely meant."""
    known = [*COMMANDS, "data"]
    if word in known or word.startswith(("-", "__")):  # __complete is the shell's
        return
    from nmtr.options import unknown

    raise UsageError(f"{unknown('command', word, known)}\nSee nmtr --help.")
