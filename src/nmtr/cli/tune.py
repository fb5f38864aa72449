"""The command that chooses a model's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from nmtr import cli
from nmtr.cli.engine import Engine, ray_workers
from nmtr.cli.show import emit_json, progress, remark, say, training_report

if TYPE_CHECKING:
    from nmtr.training.study import Trial
    from nmtr.training.tuned import Found

SHOWN = 5


def tune(
    data: Path | None = None,
    /,
    *,
    out: Path,
    model: str | None = None,
    trials: int = 40,
    minutes: float | None = None,
    protocol: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(name=["--set", "-s"])] = None,
    widen: bool = True,
    engine: Engine = "here",
    workers: int | None = None,
    json: bool = False,
) -> None:
    """Choose a model's settings by trials on validation; the first is of the settings as given.

    A study that was killed goes on where it stopped when the same command is given again. The test
    is not read.

    Parameters
    ----------
    data
        a prepared data set; with --config, by default the one that it names.
    out
        folder of the study: study.db, trials.csv, study.json, best.toml.
    model
        any that `nmtr train` takes but popularity and replay; by default nmtr-gmf.
    trials
        how many; half as many again, twice at most, where the winner lies on an edge.
    minutes
        of all trials together; whichever is spent first ends the study.
    protocol
        as-published, discovery, leak-free, time, last; by default what suits the data.
    preset
        settings to start from that come with nmtr.
    config
        settings to start from, a TOML file as a run's config.toml.
    set
        one option, NAME=VALUE, of the model or of training, that is not searched; may be repeated.
    widen
        reopen the search where the winner lies on the edge of its space.
    engine
        ray: make trials by the workers of a Ray cluster; needs pip install 'nmtr[ray]'.
    workers
        how many trials of Ray at once; one unless said.
    json
        print as JSON.
    """
    from nmtr.cli.runs import find_settings
    from nmtr.data.interactions import load
    from nmtr.errors import UsageError
    from nmtr.options import parse_assignments
    from nmtr.training import tune as tuning
    from nmtr.training.search import Budget
    from nmtr.training.settings import override
    from nmtr.training.unused import check_used

    fixed = parse_assignments(set or [])
    settings, place = find_settings(preset, config)
    settings = override(settings, fixed, model=model, protocol=protocol)
    if not (data := data or place):
        raise UsageError("name a prepared data set: nmtr tune DATA --out STUDY")
    opened = load(data)
    check_used(settings, fixed, opened.behaviors)
    budget = Budget(trials, minutes, widen)
    count = ray_workers(engine, workers)
    with progress() as shown:
        task = shown.add_task("trials", total=None)

        def notify(trial: Trial, done: int, of: int) -> None:
            shown.update(task, completed=done, total=of)
            if not cli.quiet:
                shown.console.print(_line(trial, trial.options), markup=False, soft_wrap=True)

        def resumed(trials: int) -> None:
            if not cli.quiet:
                said = f"{out} holds a study of {trials} trial(s): going on with it"
                shown.console.print(said, markup=False, soft_wrap=True)

        try:
            found = tuning.tune(
                opened,
                settings,
                out,
                fixed=fixed,
                budget=budget,
                report=training_report(shown),
                notify=notify,
                resumed=resumed,
                workers=count,
            )
        except KeyboardInterrupt:
            shown.console.print(
                f"{out} keeps what was tried; the same command goes on with it",
                markup=False,
                soft_wrap=True,
            )
            raise
    if json:
        emit_json(found.summary())
        return
    _show(found)
    remark(f"Next: nmtr train {data} --config {out / 'best.toml'} --out RUN")


def _line(trial: Trial, options: Mapping[str, Any]) -> str:
    """What came of a trial."""
    epoch = f" at epoch {trial.epoch}" if trial.epoch else ""
    said = {
        "complete": f"{trial.value or 0:.4f}{epoch}",
        "pruned": f"pruned after epoch {len(trial.epochs)}",
        "failed": f"failed: {trial.error}",
    }
    title = f"trial {trial.number:>3}  {said.get(trial.outcome, trial.outcome)}"
    values = (f"{name}={_text(value)}" for name, value in options.items())
    return f"{title}  {trial.seconds:.1f} s  {'  '.join(values) or 'the settings as given'}"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _show(found: Found) -> None:
    """The best trials, what was spent, and whether the winner lies on an edge."""
    about, best = found.about, found.best
    assert best
    say(f"{about['model']}, {about['protocol']}: the best trials by {about['metric']}, validation")
    done = [each for each in found.trials if each.value is not None]
    for each in sorted(done, key=lambda each: -(each.value or 0))[:SHOWN]:
        say(_line(each, found.chosen(each)))
    spent = found.summary()["spent"]
    outcomes = ", ".join(f"{count} {name}" for name, count in spent["outcomes"].items())
    over = "; the minutes are over" if found.ended == "minutes" else ""
    say(f"{len(found.trials)} trials ({outcomes}) in {spent['seconds']:.0f} s{over}")
    for opened in found.rounds[1:]:
        wider = ", ".join(f"{name} {opened.axes[name]}" for name in opened.edges)
        say(f"The search was reopened, as trial {opened.winner} lay on its edge: {wider}")
    axes = found.rounds[-1].axes
    for name, side in found.edges.items():
        say(f"The winner lies on the {side} edge of {name}, {axes[name]}: better may lie past it")
    if not found.edges:
        say("The winner lies inside its space.")
    if best.epoch and best.epoch == found.base.training.epochs:
        say(f"Its best epoch is its last: more may be better, --set epochs={2 * best.epoch}")
