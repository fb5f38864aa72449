"""What a training says before it begins: where its settings come from, and what lies there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmtr.cli.show import remark, training_bar

if TYPE_CHECKING:
    from nmtr.data.interactions import Interactions
    from nmtr.training.choice import Choice
    from nmtr.training.settings import Settings


def say_sources(
    base: object, *, model: str | None, protocol: str | None, asked: Mapping[str, Any]
) -> None:
    """Where both a preset or a file and flags were given, say which wins."""
    flags = [f"--model {model}"] * bool(model) + [f"--protocol {protocol}"] * bool(protocol)
    flags += [f"{name}={value}" for name, value in asked.items()]
    if base and flags:
        remark(f"settings: {base}, and over it {', '.join(flags)}")


def begins(data: Interactions, settings: Settings, out: Path, asked: Mapping[str, Any]) -> bool:
    """Whether there is anything to train; False where this very run is finished already.

    Raises UsageError for an option that the model does not use, and where another run is there.
    """
    from nmtr.training.repeat import is_finished, starts_anew
    from nmtr.training.unused import check_used

    check_used(settings, asked, data.behaviors)
    if is_finished(out, data, settings):
        remark(f"{out} holds this very run, finished: nothing is left to do")
        return False
    if any(out.glob("checkpoint-*.safetensors")):
        remark(f"{out} holds an unfinished run: going on from its checkpoint")
    elif starts_anew(out):
        remark(f"{out} holds a run that was stopped before its first checkpoint: it begins anew")
    return True


def log_finished(out: Path, places: Sequence[str]) -> None:
    """Send a finished run to where --log said."""
    from nmtr.training.tracking import to_mlflow, to_tensorboard

    if "tensorboard" in places:
        remark(f"logged: tensorboard --logdir {to_tensorboard(out, out / 'tensorboard')}")
    if "mlflow" in places:
        remark(f"logged to MLflow as {to_mlflow(out, None)}")


def parse_minutes(text: str) -> float:
    """Minutes of a length of time such as 90s, 10m or 1h; UsageError for anything else."""
    from nmtr.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"--budget: expected a length of time, as 90s, 10m or 1h, got '{text}'")
    return float(found[1]) * {"s": 1 / 60, "m": 1, "h": 60}[found[2]]


def chosen(
    data: Path, out: Path, changes: Mapping[str, str], protocol: str | None, minutes: float
) -> tuple[Settings, Choice | None]:
    """The settings of the run that lies at `out`, or of the model that validation chooses."""
    from nmtr.data.interactions import load
    from nmtr.options import check_name
    from nmtr.training.choice import Tried, choose
    from nmtr.training.folder import CONFIG, check_free
    from nmtr.training.settings import Settings, general_names, override, read_settings

    if (out / CONFIG).exists():
        return override(read_settings(out / CONFIG)[0], changes, protocol=protocol), None
    check_free(out, "run")
    for name in changes:
        check_name(name, general_names(), where="training (name a --model for options of its own)")
    base = override(Settings(), changes, protocol=protocol)

    def tell(tried: Tried) -> None:
        value = "nothing" if tried.value is None else f"{tried.value:.4f}"
        said = f" ({tried.said})" if tried.said else ""
        remark(f"  {tried.model}: {value} in {tried.seconds:.0f} s{said}")

    remark(f"No model is named: validation chooses, in {minutes:g} minute(s) or a little more.")
    with training_bar(minutes) as report:
        found = choose(load(data), base, minutes, report=report, tell=tell)
    remark(found.in_words())
    return found.settings, found
