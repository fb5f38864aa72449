"""Commands that make and judge runs: train, evaluate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from nmtr.cli.show import bar, console, emit_json, say, training_bar

if TYPE_CHECKING:
    from nmtr.training.choice import Choice
    from nmtr.training.run import Run, Settings


def train(
    data: Path | None = None,
    /,
    *,
    out: Path,
    model: str | None = None,
    protocol: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    budget: str = "10m",
) -> None:
    """Train a model: validation chooses the epoch, then it is fitted again on all but test.

    Without --model, --preset or --config validation chooses the model too, among a few with their
    usual settings, within the budget. A run that was killed goes on where it stopped when the same
    command is given again.

    Parameters
    ----------
    data
        a prepared data set; with --config, by default the one that it names.
    out
        folder of the run.
    model
        nmtr-gmf, nmtr-mlp, nmtr-neumf, nmtr-staged (level by level), nmtr-funnel (past the paper);
        of the target alone: bpr,
        gmf, mlp, neumf; of all behaviours: cmf, mc-bpr, mc-gmf, mc-mlp, mc-neumf; of memory:
        popularity, replay;
        linear and alike: ease, itemknn, ials; on the graph of users and items: lightgcn.
    protocol
        as-published, discovery, leak-free, time, last; by default what suits the data.
    preset
        settings that come with nmtr: paper, or DATA_SET/PROTOCOL/MODEL where tuned.
    config
        a TOML file of settings, as in a run's config.toml.
    set
        one option, NAME=VALUE, of the model or of training; may be repeated.
    budget
        how long models are compared where none is named: 90s, 10m, 1h. The first few are always
        tried, and the training that follows takes its own time.
    """
    from nmtr.data.interactions import load
    from nmtr.errors import UsageError
    from nmtr.files import write_text
    from nmtr.options import parse_assignments
    from nmtr.training.run import execute
    from nmtr.training.settings import override

    minutes = parse_minutes(budget)
    settings, place = find_settings(preset, config)
    if not (data := data or place):
        raise UsageError("name a prepared data set: nmtr train DATA --out RUN")
    changes, choice = parse_assignments(set or []), None
    if model or preset or config:
        settings = override(settings, changes, model=model, protocol=protocol)
    else:
        settings, choice = _chosen(data, out, changes, protocol, minutes)
    if any(out.glob("checkpoint-*.safetensors")):
        say(f"{out} holds an unfinished run: going on from its checkpoint")
    with training_bar() as report:
        run = execute(load(data), settings, out, report=report)
    if choice:
        write_text(out / "choice.json", dumps(choice.to_json(), indent=2) + "\n")
    if run.model.trained:
        say(f"{settings.model}, {run.settings.protocol}: fitted for {run.epochs} epoch(s)")
    say(f"Run in {out}. Next: nmtr evaluate {out}   and   nmtr recommend {out} --users ID")


def parse_minutes(text: str) -> float:
    """Minutes of a length of time such as 90s, 10m or 1h; UsageError for anything else."""
    from nmtr.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"--budget: expected a length of time, as 90s, 10m or 1h, got '{text}'")
    return float(found[1]) * {"s": 1 / 60, "m": 1, "h": 60}[found[2]]


def _chosen(
    data: Path, out: Path, changes: Mapping[str, str], protocol: str | None, minutes: float
) -> tuple[Settings, Choice | None]:
    """The settings of an unfinished run at `out`, or of the model that validation chooses."""
    from nmtr.data.interactions import load
    from nmtr.options import check_name
    from nmtr.training.choice import Tried, choose
    from nmtr.training.folder import CONFIG, WEIGHTS, check_free
    from nmtr.training.settings import Settings, general_names, override, read_settings

    if (out / CONFIG).exists() and not (out / WEIGHTS).exists():
        return read_settings(out / CONFIG)[0], None
    if not (out / CONFIG).exists():
        check_free(out, "run")
    for name in changes:
        check_name(name, general_names(), where="training (name a --model for options of its own)")
    base = override(Settings(), changes, protocol=protocol)

    def tell(tried: Tried) -> None:
        value = "nothing" if tried.value is None else f"{tried.value:.4f}"
        said = f" ({tried.said})" if tried.said else ""
        say(f"  {tried.model}: {value} in {tried.seconds:.0f} s{said}")

    say(f"No model is named: validation chooses, in {minutes:g} minute(s) or a little more.")
    with training_bar() as report:
        found = choose(load(data), base, minutes, report=report, tell=tell)
    say(found.in_words())
    return found.settings, found


def find_settings(preset: str | None, config: Path | None) -> tuple[Settings, Path | None]:
    """Settings from a preset or a file, and the data set that the file names, if it does."""
    from nmtr.errors import UsageError
    from nmtr.training.presets import presets
    from nmtr.training.settings import Settings, read_settings

    if preset and config:
        raise UsageError("give --preset or --config, not both")
    if preset:
        files = presets()
        if preset not in files:
            raise UsageError(f"unknown preset '{preset}'; one of {', '.join(files)}")
        return read_settings(files[preset])[0], None
    if config:
        settings, about = read_settings(config)
        return settings, config.parent / about["data"] if about.get("data") else None
    return Settings(), None


def evaluate(
    run: Path,
    /,
    *,
    test: bool = False,
    why: str | None = None,
    protocol: str | None = None,
    data: Path | None = None,
    reads: Path | None = None,
    json: bool = False,
) -> None:
    """Rank every item for every held-out user, popularity and replay beside the model.

    Without --test: the validation that chose the epoch. Each read of test is one line in a log.

    Parameters
    ----------
    run
        a finished run.
    test
        read the test.
    why
        the reason, for the log of test reads; needed with --test.
    protocol
        another protocol that trains on the same records (as-published, discovery).
    data
        the prepared data set, if it has moved.
    reads
        the log of test reads; by default experiments/TEST_READS.md, else RUN/TEST_READS.md.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError
    from nmtr.training.run import open_run

    if test and not (why and why.strip()):
        raise UsageError('--test reads the test; say why for the log: --why "final numbers"')
    if not test and (protocol or why or reads):
        raise UsageError("--protocol, --why and --reads are for reading the test; add --test")
    opened = open_run(run, data=data)
    if not test or not why:
        _show_selection(opened, run, json=json)
        return
    report = _read_test(opened, run, protocol, why, reads)
    if json:
        emit_json(report)
    else:
        from nmtr.evaluation.report import table

        console.print(table(report, width=console.width))
        _say_who_leads(report, opened.settings.model)
        say(f"Per-user values and the report are in {run}.")


def _say_who_leads(report: dict[str, Any], model: str) -> None:
    """Where memory beats the model, say what that means."""
    scores = {
        name: each["all"]["ndcg@100"]["mean"]
        for name, each in report["models"].items()
        if "all" in each
    }
    if model in scores and scores[model] < scores.get("replay", 0.0):
        say(
            "replay is ahead: most of what is held out was already in the user's funnel, which it "
            "repeats. Slice `new` shows who finds what the user had not met."
        )


def _read_test(
    opened: Run, path: Path, protocol: str | None, why: str, reads: Path | None
) -> dict[str, Any]:
    from nmtr import cli
    from nmtr.data.split import PROTOCOLS, split
    from nmtr.errors import UsageError
    from nmtr.evaluation.report import baselines, evaluate
    from nmtr.training.folder import save_report
    from nmtr.training.reads import default_log, log_read

    trained = opened.settings.protocol
    chosen = protocol or trained
    if chosen not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{chosen}'; one of {', '.join(PROTOCOLS)}")
    if chosen != trained and {chosen, trained} != {"as-published", "discovery"}:
        raise UsageError(
            f"this run was trained for {trained}, whose training records are not those of "
            f"{chosen}; train one with --protocol {chosen}"
        )
    log_read(reads or default_log(path), cli.given, why)
    parts = split(opened.data, chosen)
    with bar("rank") as progress:
        own = evaluate(opened.model, parts, name=opened.settings.model, progress=progress)
    return save_report(path, [own, *baselines(parts)], parts)


def _show_selection(opened: Run, path: Path, *, json: bool) -> None:
    """The selection phase's epochs, and the chosen model on validation, baselines beside it."""
    from nmtr.evaluation.report import baselines, to_json
    from nmtr.training.folder import open_history, open_report

    parts = opened.split(fold="validation")
    report = open_report(path, "validation")
    own = report is not None
    report = report or to_json(baselines(parts), parts)  # a run that chose nothing by validation
    epochs = [each for each in open_history(path) if each["phase"] == "selection"]
    if json:
        emit_json(report | {"selection": epochs})
        return
    from nmtr.evaluation.report import table

    say(f"Validation, {parts.describe()}")
    for each in epochs:
        marks = "  ".join(f"{name} {each[name]:.4f}" for name in sorted(each) if "@" in name)
        chosen = "  <- chosen" if each["epoch"] == opened.epochs else ""
        title = f"{opened.settings.model} epoch {each['epoch']:>3}"
        say(f"{title}  loss {each['loss']:.4f}  {marks}{chosen}")
    if not own:
        say("This run chose nothing by validation; the memory baselines on it:")
    console.print(table(report, width=console.width))
    say(f'The test is read with: nmtr evaluate {path} --test --why "REASON"')
