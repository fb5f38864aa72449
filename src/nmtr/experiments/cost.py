"""What a training costs, and on which machine."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Let the process's peak memory begin anew; False where the system cannot."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int | None:
    """MiB of the process at its peak, Python, torch and the data set included (Linux)."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return None


def machine() -> dict[str, str]:
    """What a measured number depends on."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [each.split(":")[1].strip() for each in lines if each.startswith("model name")]
    return {
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.processor()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("nmtr", "torch", "numpy", "numba", "polars")},
    }
