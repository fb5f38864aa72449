"""Settings that come with nmtr: `paper`, and DATA_SET/PROTOCOL/MODEL where they were tuned."""

from __future__ import annotations

from pathlib import Path

PRESETS = Path(__file__).parent.parent / "presets"


def presets() -> dict[str, Path]:
    """The files of the presets, by name."""
    files = sorted(PRESETS.rglob("*.toml"))
    return {each.relative_to(PRESETS).with_suffix("").as_posix(): each for each in files}
