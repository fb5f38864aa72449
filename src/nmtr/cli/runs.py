"""Commands that make and judge runs: train, evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from nmtr.cli.engine import Engine, check_named, ray_workers, say_next, train_on_ray
from nmtr.cli.show import bar, console, emit_json, remark, say, training_bar

if TYPE_CHECKING:
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
    engine: Engine = "here",
    workers: int | None = None,
    log: Annotated[list[Literal["tensorboard", "mlflow"]] | None, Parameter(name="--log")] = None,
    json: bool = False,
) -> None:
    """Train a model: validation chooses the epoch, then it is fitted again on all but test.

    Without --model, --preset or --config validation chooses the model too, among a few with their
    usual settings, within the budget. A run that was killed goes on where it stopped when the same
    command is given again. What a preset or a file says comes before the defaults, --model and
    --protocol before that, and --set before all. Under torchrun, `torchrun --nproc-per-node 2 -m
    nmtr train ...`, the processes train one model.

    Parameters
    ----------
    data
        a prepared data set; with --config, by default the one that it names.
    out
        folder of the run.
    model
        nmtr-gmf, nmtr-mlp, nmtr-neumf, nmtr-staged (level by level), nmtr-funnel (past the paper),
        nmtr-graph, nmtr-whole (without sampling), nmtr-balanced (weights learned); of the target
        alone: bpr, apr, gmf, mlp, neumf; of all behaviours: cmf, mr-bpr, ve-bpr, mc-bpr, mc-gmf,
        mc-mlp, mc-neumf; of memory: popularity, replay; linear and alike: ease, itemknn, fism,
        ials, eals, vals; on the graph of users and items: lightgcn, walk; with attributes:
        nmtr-features.
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
    engine
        ray: train by the workers of a Ray cluster; needs pip install 'nmtr[ray]'.
    workers
        how many processes of Ray train together; one unless said.
    log
        tensorboard (into OUT/tensorboard) or mlflow (to MLFLOW_TRACKING_URI), when it is done; may
        be repeated. nmtr export RUN does it later, and elsewhere.
    json
        print as JSON.
    """
    from nmtr.cli.beginning import begins, chosen, parse_minutes, say_sources
    from nmtr.data.interactions import load
    from nmtr.errors import UsageError
    from nmtr.files import write_text
    from nmtr.options import parse_assignments
    from nmtr.training.distributed import joined
    from nmtr.training.run import execute
    from nmtr.training.settings import override

    minutes = parse_minutes(budget)
    settings, place = find_settings(preset, config)
    if not (data := data or place):
        raise UsageError("name a prepared data set: nmtr train DATA --out RUN")
    changes, choice = parse_assignments(set or []), None
    named = bool(model or preset or config)
    if named:
        settings = override(settings, changes, model=model, protocol=protocol)
        say_sources(preset or config, model=model, protocol=protocol, asked=changes)
    if count := ray_workers(engine, workers):
        check_named(named)
        train_on_ray(data, settings, out, count)
        _end(out, log or (), json=json)
        return
    opened = load(data)
    with joined(settings.training.device) as group:
        if group.world > 1:
            check_named(named)
        if not named:
            settings, choice = chosen(data, out, changes, protocol, minutes)
        begun = begins(opened, settings, out, changes if named else {})
        if begun:
            with training_bar() if group.first else nullcontext() as report:
                run = execute(opened, settings, out, report=report)
    if not group.first:
        return
    if begun:
        if choice:
            write_text(out / "choice.json", dumps(choice.to_json(), indent=2) + "\n")
        if run.model.trained:
            about = f"{settings.model}, {run.settings.protocol}"
            remark(f"{about}: fitted for {run.epochs} epoch{'s' * (run.epochs != 1)}")
    _end(out, log or () if begun else (), json=json)


def _end(out: Path, places: Sequence[str], *, json: bool) -> None:
    """Send a run that has been trained to where --log said, and say what may follow."""
    from nmtr.cli.beginning import log_finished

    log_finished(out, places)
    say_next(out)
    if json:
        from nmtr.training.folder import summary

        emit_json(summary(out))


def find_settings(preset: str | None, config: Path | None) -> tuple[Settings, Path | None]:
    """Settings from a preset or a file, and the data set that the file names, if it does."""
    from nmtr.errors import UsageError
    from nmtr.options import unknown
    from nmtr.training.presets import presets
    from nmtr.training.settings import Settings, read_settings

    if preset and config:
        raise UsageError("give --preset or --config, not both")
    if preset:
        files = presets()
        if preset not in files:
            raise unknown("preset", preset, files)
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
        remark(f"Per-user values and the report are in {run}.")


def _say_who_leads(report: dict[str, Any], model: str) -> None:
    """Where memory beats the model, say what that means."""
    scores = {
        name: each["all"]["ndcg@100"]["mean"]
        for name, each in report["models"].items()
        if "all" in each
    }
    if model in scores and scores[model] < scores.get("replay", 0.0):
        new = "new" in report["models"][model]
        say(
            "replay is ahead: most of what is held out was already in the user's funnel, which it "
            "repeats." + " Slice `new` shows who finds what the user had not met." * new
        )


def _read_test(
    opened: Run, path: Path, protocol: str | None, why: str, reads: Path | None
) -> dict[str, Any]:
    from nmtr import cli
    from nmtr.data.split import PROTOCOLS, split
    from nmtr.errors import UsageError
    from nmtr.evaluation.report import baselines, evaluate
    from nmtr.options import unknown
    from nmtr.training.folder import save_report
    from nmtr.training.reads import default_log, log_read

    trained = opened.settings.protocol
    chosen = protocol or trained
    if chosen not in PROTOCOLS:
        raise unknown("protocol", chosen, PROTOCOLS)
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
    remark(f'The test is read with: nmtr evaluate {path} --test --why "REASON"')
