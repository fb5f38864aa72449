"""Settings that a model does not use, so that none is accepted in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.models.units import MLP_OPTIONS
from nmtr.training.settings import Settings

COUNTED = (
    *("optimizer", "learning_rate", "batch_size", "negatives", "negative_rule"),
    *("epochs", "patience", "device"),
)
DRAWN = ("negatives", "negative_rule")
SWEPT = ("optimizer", "batch_size", "negative_rule", "device")


def check_used(settings: Settings, asked: Iterable[str], behaviors: tuple[str, ...]) -> None:
    """Raise UsageError where one of the options that were `asked` for does nothing."""
    model = make(settings.model, settings.options, Shape(2, 2, behaviors))
    idle = unused(model, settings)
    for name in asked:
        if name in idle:
            raise UsageError(f"{settings.model} does not use '{name}': {idle[name]}; leave it out")


def unused(model: Model, settings: Settings) -> Mapping[str, str]:
    """The names of options that change nothing, and why."""
    found: dict[str, str] = {}
    if not model.trained:
        found |= dict.fromkeys(COUNTED, "it is computed from the log at once, without epochs")
    elif model.sweeps:
        found |= dict.fromkeys(SWEPT, "its epochs are sweeps of its own")
    if model.whole:
        found |= dict.fromkeys(DRAWN, "it learns from all pairs, and draws no negatives")
    if model.levels:
        found["negative_rule"] = "it draws its negatives by levels"
    if not model.probabilistic:
        found["calibrate"] = "its scores are no log odds"
    if settings.training.select == "none":
        why = "with select=none, validation chooses nothing"
        found |= {"patience": why, "validation_users": why}
    if getattr(model.config, "unit", "") == "gmf":
        found |= dict.fromkeys(MLP_OPTIONS, "its unit is GMF, which has no MLP")
    return found
