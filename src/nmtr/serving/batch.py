"""Recommendations for many users to one Parquet or CSV file, in bounded memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypedDict

import polars as pl

from nmtr.errors import UsageError
from nmtr.evaluation.ranking import Progress
from nmtr.files import replace_file
from nmtr.serving.recommender import Recommender

KINDS = (".parquet", ".csv")


class How(TypedDict):
    """What Recommender.recommend and stream have in common."""

    k: int
    repeats: bool | None
    exclude_seen: bool


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
    """Write the best k items of each user to a .parquet or .csv file, whole or not at all.

    Returns the rows. Raises UsageError for another kind of file.
    """
    if out.suffix not in KINDS:
        raise UsageError(f"{out}: expected a file that ends in {' or '.join(KINDS)}")
    choice: How = {"k": k, "repeats": repeats, "exclude_seen": exclude_seen}
    parts = recommender.stream(users, **choice, progress=progress)
    rows = 0
    with replace_file(out) as temporary:
        folder = temporary.with_suffix(".parts")
        folder.mkdir(parents=True)
        try:
            for number, part in enumerate(parts):
                part.write_parquet(folder / f"{number:06}.parquet")
                rows += part.height
            files = sorted(folder.iterdir())
            frame = (
                pl.scan_parquet(files) if files else recommender.recommend(users, **choice).lazy()
            )
            if out.suffix == ".csv":
                frame.sink_csv(temporary)
            else:
                frame.sink_parquet(temporary)
        finally:
            shutil.rmtree(folder)
    return rows
