"""A virtual environment for each peer, built once from its pinned requirements.

The peers need versions that exclude each other and ours: RecBole stands on numpy 1 and pandas 2.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from harness.places import HERE, WORK

OURS = "nmtr"  # the environment that runs the harness
PLOTS = "plots"


def requirements(name: str) -> Path:
    """The file that pins an environment."""
    return HERE / "requirements.txt" if name == PLOTS else HERE / "peers" / f"{name}.txt"


def python(name: str) -> Path:
    """An environment's interpreter."""
    return Path(sys.executable) if name == OURS else WORK / "envs" / name / "bin" / "python"


def build(name: str) -> str | None:
    """Build an environment unless it stands complete; returns why it cannot be, or None.

    A mark with the requirements' checksum is written last, so one that was interrupted, or whose
    requirements have changed, is built anew.
    """
    if name == OURS:
        return None
    wanted = hashlib.sha256(requirements(name).read_bytes()).hexdigest()
    folder = WORK / "envs" / name
    mark = folder / "complete"
    if mark.exists() and mark.read_text() == wanted:
        return None
    print(f"building the environment of {name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(python(name)), "-m", "pip", "install", "--quiet", "-r", str(requirements(name))]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        reason = found.stderr.strip().splitlines()
        return f"{name} cannot be installed: {reason[-1] if reason else 'pip said nothing'}"
    mark.write_text(wanted)
    return None


def pins(name: str, packages: tuple[str, ...]) -> dict[str, str]:
    """The versions that an environment's requirements pin."""
    lines = [each.partition("==") for each in requirements(name).read_text().splitlines()]
    return {package: version for package, _, version in lines if package in packages}
