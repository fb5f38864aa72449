"""A run that is asked for where there is one already."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.training.folder import CONFIG, WEIGHTS
from nmtr.training.selection import new_model
from nmtr.training.settings import Settings, read_settings, resolve, same


def is_finished(path: Path, data: Interactions, settings: Settings) -> bool:
    """Whether the folder holds this very run, finished.

    Raises UsageError where it holds a finished run of other settings or data, saying which.
    """
    if not ((path / WEIGHTS).exists() and (path / CONFIG).exists()):
        return False
    old, about = read_settings(path / CONFIG)
    new = resolve(data, settings, new_model(data, settings))
    differing = [] if same(old, new) else differences(old, new)
    if about.get("fingerprint") != data.fingerprint():
        differing.append("other data")
    if differing:
        raise UsageError(
            f"{path} holds a finished run of other settings ({'; '.join(differing)}); name another "
            "folder for this one"
        )
    return True


def differences(old: Settings, new: Settings) -> list[str]:
    """Each setting that differs: its name, its old value, and the new one."""
    one, other = _flat(old), _flat(new)
    names = [each for each in (*one, *other) if one.get(each) != other.get(each)]
    return [f"{each} {one.get(each)}, not {other.get(each)}" for each in dict.fromkeys(names)]


def starts_anew(path: Path) -> bool:
    """Whether a run began here and was stopped before anything of it could be kept."""
    kept = [path / WEIGHTS, *path.glob("checkpoint-*.safetensors")]
    return (path / CONFIG).exists() and not any(each.exists() for each in kept)


def _flat(settings: Settings) -> dict[str, object]:
    """All settings by name, lists as text."""
    whole = asdict(settings)
    flat = whole | dict(whole.pop("training")) | dict(whole.pop("options"))
    return {
        name: ",".join(map(str, each)) if isinstance(each, list | tuple) else each
        for name, each in flat.items()
        if name not in ("training", "options")
    }
