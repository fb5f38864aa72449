"""Recommendations for many users to one Parquet or CSV file: bounded memory, resumed after a kill.

Finished parts wait in a folder beside the file, .NAME.parts, with what was asked for. The same
question goes on after them; another one, or another model, begins anew.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from nmtr import __version__
from nmtr.errors import UsageError
from nmtr.evaluation.ranking import Progress
from nmtr.files import replace_file, write_text
from nmtr.serving import recommender as serving
from nmtr.serving.recommender import Recommender
from nmtr.serving.requests import Slice
from nmtr.serving.rules import Rules

KINDS = (".parquet", ".csv")
ASKED = "asked.json"


@dataclass(frozen=True)
class Question:
    """What every user of a batch is asked for; `now` as in Request."""

    k: int = 20
    slice: Slice = "all"
    rules: Rules = field(default_factory=Rules)
    now: int | None = None


def write(
    recommender: Recommender,
    users: pl.Series,
    out: Path,
    question: Question,
    *,
    progress: Progress | None = None,
) -> int:
    """Write the best k items of each user to a .parquet or .csv file, whole or not at all.

    Returns the rows. Raises UsageError for another kind of file.
    """
    parts = Parts(out, recommender, users, question)
    stream = recommender.stream(
        users, k=question.k, slice=question.slice, rules=question.rules, now=parts.now,
        start=parts.done, progress=progress,
    )  # fmt: skip
    for part in stream:
        parts.add(part)
    return parts.put_together()


def parts_of(out: Path) -> Path:
    """Where the finished parts of an unfinished batch wait."""
    return out.with_name(f".{out.name}.parts")


class Parts:
    """The finished parts of one batch, a file each, and its moment `now`.

    Raises UsageError for a kind of file that is not known.
    """

    def __init__(
        self, out: Path, recommender: Recommender, users: pl.Series, question: Question
    ) -> None:
        if out.suffix not in KINDS:
            raise UsageError(f"{out}: expected a file that ends in {' or '.join(KINDS)}")
        self.out, self.recommender = out, recommender
        self.folder = parts_of(out)
        asked = {
            "nmtr": __version__,
            "model": recommender.service.fingerprint,
            "stock": recommender.service.filters.stocked,
            "candidates": recommender.service.ranker.candidates,
            "users": _hash(users),
            "chunk": serving.CHUNK,
            "question": json.loads(json.dumps(asdict(question))),
        }
        before = self._read()
        same = {name: before.get(name) for name in asked} == asked
        self.now = int(before["now"]) if same else question.now or int(time.time() * 1000)
        if not same:
            self.remove()
        self.files = list(self._whole())
        self._asked = {**asked, "now": self.now}

    @property
    def done(self) -> int:
        return len(self.files)

    def _read(self) -> dict[str, Any]:
        """What the parts that are there were asked for."""
        try:
            found = json.loads((self.folder / ASKED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _whole(self) -> Iterator[Path]:
        number = 0
        while (path := part_file(self.folder, number)).exists():
            yield path
            number += 1

    def begin(self) -> None:
        """Note what the parts are of."""
        write_text(self.folder / ASKED, json.dumps(self._asked))

    def add(self, part: pl.DataFrame) -> None:
        """Write one more part, whole or not at all."""
        if not self.files:
            self.begin()
        path = part_file(self.folder, self.done)
        write_part(path, part)
        self.files.append(path)

    def put_together(self) -> int:
        """Make the one file of its parts, which go; returns its rows."""
        files = self.files
        frame = pl.scan_parquet(files) if files else self.recommender.recommend([]).lazy()
        rows = int(frame.select(pl.len()).collect().item())
        with replace_file(self.out) as temporary:
            if self.out.suffix == ".csv":
                frame.sink_csv(temporary)
            else:
                frame.sink_parquet(temporary)
        self.remove()
        return rows

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def part_file(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / f"{number:06}.parquet"


def write_part(path: Path, part: pl.DataFrame) -> None:
    """Write a part, whole or not at all."""
    with replace_file(path) as temporary:
        part.write_parquet(temporary)


def _hash(users: pl.Series) -> str:
    total = sha256(str(users.dtype).encode())
    for start in range(0, len(users), serving.CHUNK):
        texts = users.slice(start, serving.CHUNK).cast(pl.String).to_list()
        total.update(json.dumps(texts).encode())
    return total.hexdigest()
