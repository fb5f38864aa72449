"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App, CycloptsError
from rich.console import Console

from nmtr import __version__
from nmtr.errors import NmtrError

EPILOGUE = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. "
    "Add --debug to any command for a traceback."
)

COMMANDS = {
    "demo": ("nmtr.cli.demo:demo", "the whole job on a simulated shop"),
    "simulate": ("nmtr.cli.logs:simulate", "make a shop's log with a known truth"),
    "prepare": ("nmtr.cli.logs:prepare", "read event logs into a prepared data set"),
    "audit": ("nmtr.cli.logs:audit", "what the data are: counts, nesting, leaks"),
    "train": ("nmtr.cli.runs:train", "train a model; validation chooses the epoch"),
    "compare": ("nmtr.cli.compare:compare", "which runs are better, and how surely"),
    "tune": ("nmtr.cli.tune:tune", "choose a model's settings by trials on validation"),
    "evaluate": ("nmtr.cli.runs:evaluate", "rank held-out items, memory baselines beside"),
    "report": ("nmtr.cli.report:report", "one HTML page on a run, to look at"),
    "reproduce": ("nmtr.cli.reproduce:reproduce", "the paper's tables, figure and claims"),
    "recommend": ("nmtr.cli.recommend:recommend", "the best items of some users, or of all"),
    "bundle": ("nmtr.cli.bundle:bundle", "a run as one file, to be served"),
    "serve": ("nmtr.cli.serve:serve", "recommendations and events over HTTP"),
    "refresh": ("nmtr.cli.refresh:refresh", "retrain what is served, judge it, exchange it"),
}


def application(words: Sequence[str]) -> App:
    """The commands; the one that `words` ask for is loaded with its own, longer help."""
    app = App(
        name="nmtr",
        version=__version__,
        help="Recommendations that learn from everything users do: view, cart, buy.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",  # Markdown costs a third of the start
        suppress_keyboard_interrupt=False,  # run() answers it
    )
    for name, (place, summary) in COMMANDS.items():
        app.command(place, name=name, help=None if words[:1] == [name] else summary)
    data = App(name="data", help="named public data sets")
    asked = tuple(words[:2]) == ("data", "get")
    data.command("nmtr.cli.logs:get", name="get", help=None if asked else "download and verify one")
    app.command(data)
    return app


class Output(Console):
    """A console that leaves a closed pipe to run(), where Rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


given: Sequence[str] = ()  # the words of the command that runs, for the log of test reads


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    global given
    given = arguments
    debug = "--debug" in arguments
    words = [each for each in arguments if each != "--debug"]
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        application(words)(
            words,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
            console=Output(),
            error_console=errors,
        )
        sys.stdout.flush()
    except CycloptsError as error:
        if debug:
            raise
        errors.print(f"nmtr: {error}", style="red", markup=False)
        errors.print("See nmtr --help, or nmtr COMMAND --help.", markup=False)
        return 2
    except NmtrError as error:
        if debug:
            raise
        errors.print(f"nmtr: {error}", style="red", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print(
            "nmtr: interrupted; nothing half-written is left. "
            "The same command goes on where a run stopped."
        )
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it flushes.
        with suppress(OSError):
            screen = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), screen)
        return 0
    except Exception as error:
        if debug:
            raise
        errors.print(f"nmtr: {type(error).__name__}: {error}", style="red", markup=False)
        if not isinstance(error, OSError | MemoryError):
            errors.print("This should not happen. The same command with --debug shows where.")
        return 1
    return 0


def main() -> None:
    """Entry point of the `nmtr` command."""
    sys.exit(run(sys.argv[1:]))
