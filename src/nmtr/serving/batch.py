"""Recommendations for many users to one Parquet file, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from nmtr.evaluation.ranking import Progress
from nmtr.files import replace_file
from nmtr.serving.recommender import Recommender


def write(
    recommender: Recommender,
    users: pl.Series,
    out: Path,
    *,
    k: int,
    repeats: bool | None = None,
    exclude_seen: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the best k items of each user to `out`, whole or not at all; returns the rows."""
    parts = recommender.stream(
        users, k=k, repeats=repeats, exclude_seen=exclude_seen, progress=progress
    )
    rows = 0
    with replace_file(out) as temporary:
        folder = temporary.with_suffix(".parts")
        folder.mkdir(parents=True)
        try:
            for number, part in enumerate(parts):
                part.write_parquet(folder / f"{number:06}.parquet")
                rows += part.height
            pl.scan_parquet(sorted(folder.iterdir())).sink_parquet(temporary, maintain_order=True)
        finally:
            for each in folder.iterdir():
                each.unlink()
            folder.rmdir()
    return rows
