"""What a measured number depends on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from harness.environments import pins

OURS = ("nmtr", "torch", "numpy", "numba", "polars")
PEERS = {
    "recbole": ("recbole", "torch", "numpy"),
    "implicit": ("implicit",),
    "cornac": ("cornac",),
    "lightfm": ("lightfm-next",),
}
WIDE = ("avx2", "avx512f", "avx512_bf16", "amx_tile")  # what decides a matrix product's rate


def machine() -> dict[str, str]:
    """The date, the processor and its load, and the versions of all that is timed."""
    cpu = _cpu()
    flags = cpu.get("flags", "").split()
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": f"{os.cpu_count()} x {cpu.get('model name') or platform.processor()}",
        "instructions": " ".join(each for each in WIDE if each in flags) or platform.machine(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }
    found |= {name: version(name) for name in OURS}
    for name, packages in PEERS.items():
        versions = pins(name, packages)
        own, *rest = packages
        beside = ", ".join(f"{each} {versions[each]}" for each in rest)
        found[own] = versions[own] + (f" ({beside})" if beside else "")
    return found


def _cpu() -> dict[str, str]:
    """The first processor's lines in /proc/cpuinfo; nothing where there is no such file."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return {}
    first = file.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
