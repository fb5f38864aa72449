"""The command that lets the shell complete what is typed."""

from __future__ import annotations

from typing import Literal

from nmtr.cli.show import say


def completion(
    shell: Literal["bash", "zsh", "fish"] | None = None, /, *, install: bool = False
) -> None:
    """Print the script that completes commands and options in a shell, or install it.

    Parameters
    ----------
    shell
        by default the one that runs this.
    install
        write the script where the shell looks for it, and load it from the shell's start file.
    """
    from cyclopts.completion.detect import ShellDetectionError

    from nmtr.cli import COMMANDS, application
    from nmtr.errors import UsageError

    app = application(tuple(COMMANDS))
    try:
        if install:
            say(f"Installed in {app.install_completion(shell=shell)}; open a new shell to use it.")
        else:
            print(app.generate_completion(shell=shell))
    except ShellDetectionError as error:
        raise UsageError("which shell? nmtr completion bash, zsh or fish") from error
