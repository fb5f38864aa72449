"""What decides a run, from TOML and back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nmtr.data.interactions import Interactions
from nmtr.data.split import default_protocol
from nmtr.errors import UsageError
from nmtr.evaluation.metrics import parse
from nmtr.models import VARIANTS, option_names
from nmtr.models.base import Model
from nmtr.options import build, check_name, unknown
from nmtr.training.optim import OPTIMIZERS
from nmtr.training.trainer import Training

ABOUT = ("data", "fingerprint", "nmtr")  # in a run's config.toml beside the settings


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run.

    validation_users: how many are ranked for selection, 0 for all.
    """

    model: str = "nmtr-gmf"
    protocol: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    validation_users: int = 0

    def __post_init__(self) -> None:
        if self.validation_users < 0:
            raise ValueError(
                f"validation_users: expected 0 (all) or more, got {self.validation_users}"
            )


def general_names() -> list[str]:
    """What may be set whatever the model."""
    return [*(each.name for each in fields(Training)), "validation_users"]


def override(
    settings: Settings,
    changes: Mapping[str, Any],
    *,
    model: str | None = None,
    protocol: str | None = None,
) -> Settings:
    """The settings with options of the model and of training changed, text or typed.

    Raises UsageError for an unknown name or a wrong value.
    """
    name = model or settings.model
    own = {each.name for each in fields(Training)}
    known = [*own, *option_names(name), "validation_users"]
    for option in changes:
        check_name(option, known, where=f"model {name}, or its training,")
    training = {option: value for option, value in changes.items() if option in own}
    top = {option: value for option, value in changes.items() if option == "validation_users"}
    options = {option: each for option, each in changes.items() if option not in own | set(top)}
    changed = {
        "model": name,
        "protocol": protocol or settings.protocol,
        "options": {**settings.options, **options},
        "training": build(Training, {**_shallow(settings.training), **training}, where="training"),
    }
    return build(Settings, {**_shallow(settings), **changed, **top}, where="settings")


def _shallow(settings: Any) -> dict[str, Any]:
    return {each.name: getattr(settings, each.name) for each in fields(settings)}


def resolve(data: Interactions, settings: Settings, model: Model) -> Settings:
    """Every setting with its value; raises UsageError where one does not fit model or data.

    model: one made by these settings.
    """
    training = settings.training
    if model.describes and data.user_attributes is None and data.item_attributes is None:
        raise UsageError(
            f"model {settings.model} learns from attributes, and the data set has none; prepare it "
            "with --items FILE or --users FILE, or take a model without them"
        )
    if training.select != "none":
        training = replace(training, select=parse(training.select))
    if model.trained:
        if training.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", training.optimizer, OPTIMIZERS)
        if len(training.negatives) not in (1, len(data.behaviors)):
            raise UsageError(
                f"negatives: expected one count or {len(data.behaviors)} (one for each of "
                f"{', '.join(data.behaviors)}), got {len(training.negatives)}"
            )
        if training.epochs <= model.warm_up:
            raise UsageError(
                f"epochs: expected more than the {model.warm_up} that only prepare the model, got "
                f"{training.epochs}"
            )
        training.torch_device()
        if model.sweeps:
            training = replace(training, optimizer="sgd")
    protocol = settings.protocol or default_protocol(data)
    options = _options(settings, model)
    return replace(settings, protocol=protocol, options=options, training=training)


def _options(settings: Settings, model: Model) -> dict[str, Any]:
    """The model's options, typed, less those that its name fixes."""
    file, fixed = VARIANTS.get(settings.model, (settings.model, {}))
    values = {each.name: getattr(model.config, each.name) for each in fields(model.config)}
    for name, value in fixed.items():
        if values.pop(name) != value:
            raise UsageError(
                f"model {settings.model} is {file} with {name}={value}; for another {name} use "
                f"--model {file}"
            )
    return values


def read_settings(path: Path) -> tuple[Settings, dict[str, Any]]:
    """Settings from a TOML file, and the rest of the file (data, versions)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error})") from error
    return parse_settings(text, where=str(path))


def parse_settings(text: str, *, where: str) -> tuple[Settings, dict[str, Any]]:
    """The same from TOML text; `where` begins the errors."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from error
    about: dict[str, Any] = {name: found.pop(name) for name in ABOUT if name in found}
    for name in ("training", "options"):
        if not isinstance(found.setdefault(name, {}), dict):
            raise UsageError(f"{where}: expected a table [{name}], got {name} = {found[name]!r}")
    training = build(Training, found.pop("training"), where=f"{where}, [training]")
    return build(Settings, {**found, "training": training}, where=where), about


def same(one: Settings, other: Settings) -> bool:
    """Whether two settings are one, lists and tuples alike."""
    return _text(one) == _text(other)


def _text(settings: Settings) -> str:
    return json.dumps(asdict(settings), sort_keys=True)
