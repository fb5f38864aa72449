"""The command that lets the shell complete what is typed."""

from __future__ import annotations

from typing import Literal

from nmtr.cli.show import emit_json, say


def completion(
    shell: Literal["bash", "zsh", "fish"] | None = None,
    /,
    *,
    install: bool = False,
    json: bool = False,
) -> None:
    """Print the script that completes commands and options in a shell, or install it.

    Parameters
    ----------
    shell
        by default the one that runs this.
    install
        write the script where the shell looks for it, and load it from the shell's start file.
    json
        print as JSON.
    """
    from cyclopts.completion.detect import ShellDetectionError

    from nmtr.cli import COMMANDS, application
    from nmtr.errors import UsageError

    app = application(tuple(COMMANDS))
    try:
        if install:
            place = app.install_completion(shell=shell)
        else:
            script = app.generate_completion(shell=shell)
    except ShellDetectionError as error:
        raise UsageError("which shell? nmtr completion bash, zsh or fish") from error
    if json:
        emit_json({"installed": str(place)} if install else {"script": script})
    elif install:
        say(f"Installed in {place}; open a new shell to use it.")
    else:
        print(script)
