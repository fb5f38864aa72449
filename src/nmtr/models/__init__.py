"""Models, found by their file names; torch is imported only when one is asked for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nmtr.errors import UsageError
from nmtr.options import build

if TYPE_CHECKING:
    from nmtr.models.base import Model, Shape

NOT_MODELS = ("base", "losses", "units", "kernels", "embeddings")
VARIANTS = {f"nmtr-{unit}": ("nmtr", {"unit": unit}) for unit in ("gmf", "mlp", "neumf")}


def names() -> list[str]:
    """Every model's name: its file's, and the paper's names for NMTR with each unit."""
    files = [each.name for each in pkgutil.iter_modules(__path__) if each.name not in NOT_MODELS]
    return sorted([*files, *VARIANTS])


def make(name: str, options: Mapping[str, Any], shape: Shape) -> Model:
    """A new, untrained model; raises UsageError for an unknown name or option."""
    file, preset = VARIANTS.get(name, (name, {}))
    if file not in names():
        raise UsageError(f"unknown model '{name}'; one of {', '.join(names())}")
    module = importlib.import_module(f"nmtr.models.{file}")
    config = build(module.Config, {**preset, **options}, where=f"model {name}")
    try:
        model: Model = module.MODEL(config, shape)
    except ValueError as error:
        raise UsageError(f"model {name}: {error}") from error
    return model
