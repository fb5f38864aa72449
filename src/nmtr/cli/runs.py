"""Commands on runs: train, evaluate, recommend."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from nmtr.cli.show import bar, console, emit_json, training_bar, words

if TYPE_CHECKING:
    import polars as pl

    from nmtr.training.run import Run, Settings


def train(
    data: Path,
    /,
    *,
    out: Path,
    model: str | None = None,
    protocol: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
) -> None:
    """Train a model: validation chooses the epoch, then it is fitted again on all but test.

    A run that was killed goes on where it stopped when the same command is given again.

    Parameters
    ----------
    data
        a prepared data set.
    out
        folder of the run.
    model
        nmtr-gmf, nmtr-mlp, nmtr-neumf, popularity, replay.
    protocol
        as-published, discovery, leak-free, time, last; by default what suits the data.
    preset
        settings that come with nmtr: paper.
    config
        a TOML file of settings, as in a run's config.toml.
    set
        one option, NAME=VALUE, of the model or of training; may be repeated.
    """
    from nmtr.data.interactions import load
    from nmtr.options import parse_assignments
    from nmtr.training.run import execute

    settings = _settings(preset, config, model, protocol, parse_assignments(set or []))
    with training_bar() as report:
        run = execute(load(data), settings, out, report=report)
    if run.model.trained:
        console.print(
            f"{settings.model}, {run.settings.protocol}: {run.epochs} epochs", markup=False
        )
    console.print(
        f"Run in {out}. Next: nmtr evaluate {out}   and   nmtr recommend {out} --users ID",
        markup=False,
    )


def _settings(
    preset: str | None,
    config: Path | None,
    model: str | None,
    protocol: str | None,
    assignments: dict[str, str],
) -> Settings:
    """Preset, then config, then flags: the later wins."""
    from nmtr.errors import UsageError
    from nmtr.options import build
    from nmtr.training.run import Settings, read_settings
    from nmtr.training.trainer import Training

    settings = Settings()
    if preset and config:
        raise UsageError("give --preset or --config, not both")
    if preset:
        folder = Path(__file__).parent.parent / "presets"
        file = folder / f"{preset}.toml"
        if not file.exists():
            raise UsageError(
                f"unknown preset '{preset}'; one of {', '.join(each.stem for each in folder.glob('*.toml'))}"
            )
        settings, _ = read_settings(file)
    if config:
        settings, _ = read_settings(config)
    own = {each.name for each in fields(Training)}
    training = {name: value for name, value in assignments.items() if name in own}
    options = {
        name: value
        for name, value in assignments.items()
        if name not in own and name != "validation_users"
    }
    resolved = build(Training, {**_shallow(settings.training), **training}, where="training")
    users = int(assignments.get("validation_users", settings.validation_users))
    return replace(
        settings,
        model=model or settings.model,
        protocol=protocol or settings.protocol,
        options={**settings.options, **options},
        training=resolved,
        validation_users=users,
    )


def _shallow(settings: Any) -> dict[str, Any]:
    return {each.name: getattr(settings, each.name) for each in fields(settings)}


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

    opened = open_run(run, data=data)
    if not test:
        _show_selection(opened, run, json=json)
        return
    if not why:
        raise UsageError(
            '--test reads the test; say why for the log: --why "final numbers of the report"'
        )
    report = _read_test(opened, run, protocol, why, reads)
    if json:
        emit_json(report)
    else:
        from nmtr.evaluation.report import table

        console.print(table(report, width=console.width))
        console.print(f"Per-user values and the report are in {run}.", markup=False)


def _read_test(
    opened: Run, path: Path, protocol: str | None, why: str, reads: Path | None
) -> dict[str, Any]:
    import json

    from nmtr.data.split import split
    from nmtr.errors import UsageError
    from nmtr.evaluation.report import baselines, evaluate, save_vectors, to_json
    from nmtr.files import write_text

    trained = opened.settings.protocol
    chosen = protocol or trained
    if chosen != trained and {chosen, trained} != {"as-published", "discovery"}:
        raise UsageError(
            f"this run was trained for {trained}, whose training records are not those of {chosen}; "
            f"train one with --protocol {chosen}"
        )
    _log_read(reads or _default_reads(path), why)
    parts = split(opened.data, chosen)
    with bar("rank") as progress:
        own = evaluate(opened.model, parts, name=opened.settings.model, progress=progress)
    report = to_json([own, *baselines(parts)], parts)
    write_text(path / f"report-{chosen}.json", json.dumps(report, indent=2) + "\n")
    save_vectors(own, path / f"vectors-{chosen}.npz")
    return report


def _show_selection(opened: Run, path: Path, *, json: bool) -> None:
    """The selection phase's epochs, and the baselines on the same validation."""
    import json as codec

    from nmtr.evaluation.report import baselines, to_json

    parts = opened.split(fold="validation")
    report = to_json(baselines(parts), parts)
    lines = [codec.loads(each) for each in (path / "metrics.jsonl").read_text().splitlines()]
    epochs = [each for each in lines if each["phase"] == "selection"]
    if json:
        emit_json(report | {"selection": epochs})
        return
    from nmtr.evaluation.report import table

    console.print(f"Validation, {parts.describe()}", markup=False)
    for each in epochs:
        marks = "  ".join(f"{name} {each[name]:.4f}" for name in sorted(each) if "@" in name)
        chosen = "  <- chosen" if each["epoch"] == opened.epochs else ""
        console.print(
            f"{opened.settings.model} epoch {each['epoch']:>3}  loss {each['loss']:.4f}  {marks}{chosen}",
            markup=False,
        )
    console.print(table(report, width=console.width))
    console.print(
        f'The test is read with: nmtr evaluate {path} --test --why "REASON"', markup=False
    )


def _default_reads(path: Path) -> Path:
    shared = Path("experiments")
    return (shared if shared.is_dir() else path) / "TEST_READS.md"


def _log_read(log: Path, why: str) -> None:
    """One line for each read of the test, written before it is read."""
    command = " ".join(["nmtr", *sys.argv[1:]]).replace("|", "\\|")
    line = f"| {datetime.now(UTC):%Y-%m-%d %H:%M} | `{command}` | {why.replace('|', '/')} |\n"
    if not log.exists():
        log.write_text("# Reads of the test\n\n| when (UTC) | command | why |\n|---|---|---|\n")
    with log.open("a") as stream:
        stream.write(line)


def recommend(
    run: Path,
    /,
    *,
    users: str | None = None,
    all: bool = False,
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 20,
    out: Path | None = None,
    repeats: bool | None = None,
    exclude_seen: bool = False,
    data: Path | None = None,
    json: bool = False,
) -> None:
    """Recommend items: user, rank, item, score, and the score of each behaviour.

    Parameters
    ----------
    run
        a finished run.
    users
        ids, comma-separated, or @FILE with one a line.
    all
        every user of the log; needs --out.
    k
        how many items each.
    out
        write to this Parquet (or .csv) file instead of the screen.
    repeats
        let bought items come back (by default as the data were prepared).
    exclude_seen
        leave out everything that the user has any record of.
    data
        the prepared data set, if it has moved.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError
    from nmtr.serving.batch import write
    from nmtr.serving.recommender import Recommender
    from nmtr.training.run import open_run

    if bool(users) == all:
        raise UsageError("say whom to recommend to: --users ID,ID or --users @FILE, or --all")
    if all and not out:
        raise UsageError("--all needs a file to write to: --out recs.parquet")
    opened = open_run(run, data=data)
    recommender = Recommender(opened.model, opened.data, opened.calibration)
    ids = opened.data.users.ids if all else _ids(users or "", opened)
    if out:
        with bar("recommend") as progress:
            rows = write(
                recommender,
                ids,
                out,
                k=k,
                repeats=repeats,
                exclude_seen=exclude_seen,
                progress=progress,
            )
        console.print(f"{rows:,} rows for {len(ids):,} users in {out}", markup=False)
        return
    _show(recommender.recommend(ids, k=k, repeats=repeats, exclude_seen=exclude_seen), json=json)


def _ids(users: str, opened: Run) -> pl.Series:
    """User ids from the command line, of the type that the log has them in."""
    import polars as pl

    from nmtr.errors import UsageError

    if users.startswith("@"):
        file = Path(users[1:])
        if not file.exists():
            raise UsageError(f"--users {users}: no such file")
        texts: Sequence[str] = [
            each.strip() for each in file.read_text().splitlines() if each.strip()
        ]
    else:
        texts = words(users)
    if not texts:
        raise UsageError("--users names no user")
    found = pl.Series(list(texts), dtype=pl.String)
    typed = found.cast(opened.data.users.ids.dtype, strict=False)
    return found if typed.null_count() else typed


def _show(frame: pl.DataFrame, *, json: bool) -> None:
    if json:
        print(frame.write_json())
        return
    from rich.table import Table

    popular = (
        frame.filter(frame.get_column("basis") == "popular")
        .get_column("user_id")
        .unique(maintain_order=True)
    )
    for each in popular.to_list():
        console.print(f"user {each} is not in the log; these are popular items", markup=False)
    shown = Table()
    for name in frame.columns:
        shown.add_column(
            name, justify="left" if name in ("user_id", "item_id", "basis") else "right"
        )
    for row in frame.iter_rows():
        shown.add_row(*(f"{each:.4f}" if isinstance(each, float) else str(each) for each in row))
    console.print(shown)
