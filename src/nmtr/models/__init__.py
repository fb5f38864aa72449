"""Models, found by their file names; torch is imported only when one is asked for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nmtr.errors import UsageError
from nmtr.options import build, unknown

if TYPE_CHECKING:
    from nmtr.models.base import Model, Shape

NOT_MODELS = (
    *("base", "losses", "units", "kernels", "embeddings", "levels", "strangers", "graph"),
    "space",
    "foldin",
    "towers",
    "cascades",
    "heldout",
    "observed",
    "neighbours",
)
VARIANTS = {
    f"{prefix}{unit}": (name, {"unit": unit})
    for prefix, name in (("", "ncf"), ("mc-", "mc-ncf"), ("nmtr-", "nmtr"))
    for unit in ("gmf", "mlp", "neumf")
}


def names() -> list[str]:
    """Every model's name: its file's, with dashes, and the paper's names for those with a unit."""
    files = [each.name for each in pkgutil.iter_modules(__path__) if each.name not in NOT_MODELS]
    return sorted([*(each.replace("_", "-") for each in files), *VARIANTS])


def option_names(name: str) -> list[str]:
    """What a model can be told; raises UsageError for an unknown name."""
    return [each.name for each in fields(_module(name).Config)]


def describes(name: str) -> bool:
    """Whether a model learns from attributes; raises UsageError for an unknown name."""
    return bool(_module(name).MODEL.describes)


def _module(name: str) -> Any:
    whole, _ = VARIANTS.get(name, (name, {}))
    if whole not in names():
        raise unknown("model", name, names())
    return importlib.import_module(f"nmtr.models.{whole.replace('-', '_')}")


def make(name: str, options: Mapping[str, Any], shape: Shape) -> Model:
    """A new, untrained model; raises UsageError for an unknown name or option."""
    _, preset = VARIANTS.get(name, (name, {}))
    module = _module(name)
    config = build(module.Config, {**preset, **options}, where=f"model {name}")
    try:
        model: Model = module.MODEL(config, shape)
    except ValueError as error:
        raise UsageError(f"model {name}: {error}") from error
    return model
