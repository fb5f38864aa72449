"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from nmtr import __version__
from nmtr.errors import ElsewhereError, NmtrError, UsageError

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

EPILOGUE = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Any command takes --quiet, for "
    "results and errors alone, and --debug, for a traceback."
)

COMMANDS = {
    "demo": ("nmtr.cli.demo:demo", "the whole job on a simulated shop"),
    "simulate": ("nmtr.cli.simulate:simulate", "make a shop's log with a known truth"),
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
    "export": ("nmtr.cli.export:export", "a run to ONNX, MLflow or TensorBoard"),
    "doctor": ("nmtr.cli.doctor:doctor", "is this installation sound"),
    "completion": ("nmtr.cli.completion:completion", "let the shell complete what is typed"),
}
RESUMES = ("train", "tune", "reproduce", "recommend", "refresh")


def application(words: Sequence[str]) -> App:
    """The commands; the one that `words` ask for is loaded with its own, longer help."""
    from cyclopts import App

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


given: Sequence[str] = ()  # the words of the command that runs, for the log of test reads
quiet = False  # --quiet or --json: remarks, progress and what comes next are not shown


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    global given, quiet
    given = arguments
    debug = "--debug" in arguments
    quiet = "--quiet" in arguments or "--json" in arguments
    words = [each for each in arguments if each not in ("--debug", "--quiet")]
    try:
        _answer(words)
        sys.stdout.flush()
    except NmtrError as error:
        if debug:
            raise
        if not isinstance(error, ElsewhereError):
            _complain(f"nmtr: {error}", style="red")
        return error.exit_code
    except KeyboardInterrupt:
        _complain(f"nmtr: interrupted; nothing half-written is left. {_after_interrupt(words)}")
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
        from nmtr.cli.mishaps import told

        message = told(error)
        _complain(f"nmtr: {message or f'{type(error).__name__}: {error}'}", style="red")
        if message is None:
            _complain("This should not happen. The same command with --debug shows where.")
        return 1
    return 0


def _answer(words: Sequence[str]) -> None:
    """What needs no parser, without waiting for one; any command else."""
    from nmtr.cli import front

    if words in ([], ["--json"]):
        from nmtr.cli.overview import overview

        overview(json=bool(words))
    elif words in (["--help"], ["-h"]):
        print(front.help_text())
    elif words == ["--version"]:
        print(__version__)
    else:
        front.check_command(words[0])
        _parse(words)


def _parse(words: Sequence[str]) -> None:
    from cyclopts import CycloptsError
    from rich.console import Console

    from nmtr.cli.show import Output

    try:
        application(words)(
            words,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
            console=Output(),
            error_console=Console(stderr=True, highlight=False, soft_wrap=True),
        )
    except CycloptsError as error:
        raise UsageError(f"{_reworded(error)}\nSee nmtr --help, or nmtr COMMAND --help.") from error


def _reworded(error: CycloptsError) -> str:
    """The parser's message; with the option that was meant where only the case was wrong."""
    from cyclopts import MissingArgumentError, UnknownOptionError

    from nmtr.options import closest

    text = str(error)
    if isinstance(error, MissingArgumentError) and error.argument and not error.keyword:
        # what was not given at all is no option that lacks its value
        text = text.replace(" requires an argument.", " is missing.")
    if isinstance(error, UnknownOptionError) and "Did you mean" not in text:
        names = [name for each in error.argument_collection or () for name in each.names]
        close = closest(str(error.token.keyword or error.token.value), names)
        text += f" Did you mean {close}?" if close else ""
    return text


def _after_interrupt(words: Sequence[str]) -> str:
    """How to go on."""
    import shlex

    if words[:1] and words[0] in RESUMES:
        return f"To go on where it stopped: nmtr {shlex.join(words)}"
    return "The same command begins anew."


def _complain(text: str, *, style: str | None = None) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style=style, markup=False)


def main() -> None:
    """Entry point of the `nmtr` command."""
    sys.exit(run(sys.argv[1:]))
