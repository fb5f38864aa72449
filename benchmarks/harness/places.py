"""Where things are."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent.parent
ROOT = HERE.parent
WORKERS = HERE / "workers"
RESULTS = HERE / "results"
WORK = ROOT / "runs" / "bench"  # git ignores it
