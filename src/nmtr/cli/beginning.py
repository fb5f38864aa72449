"""What a training says before it begins: where its settings come from, and what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmtr.cli.show import remark

if TYPE_CHECKING:
    from nmtr.data.interactions import Interactions
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
