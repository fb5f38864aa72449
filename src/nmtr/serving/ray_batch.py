"""Recommendations for many users on Ray: Ray Data hands parts of the users to actors.

Each actor opens the model once. Parts are the files of nmtr.serving.batch, so a batch that was
killed goes on after those that are there, with Ray or without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from nmtr.evaluation.ranking import Progress
from nmtr.serving import recommender as serving
from nmtr.serving.batch import Parts, Question, part_file, write_part
from nmtr.serving.recommender import Recommender
from nmtr.training.ray_engine import cluster


class Scorer:
    """What an actor does: open the model, then write parts of the users' recommendations."""

    def __init__(
        self,
        opened: Callable[[], Recommender],
        users: pl.Series | None,
        folder: Path,
        question: Question,
        now: int,
    ) -> None:
        """users: None for every user of the log."""
        self.recommender, self.folder = opened(), folder
        self.users = self.recommender.users if users is None else users
        self.question, self.now = question, now

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        number, asked = row["number"], self.question
        ids = self.users.slice(number * serving.CHUNK, serving.CHUNK)
        frames = self.recommender.stream(
            ids, k=asked.k, slice=asked.slice, rules=asked.rules, now=self.now
        )
        write_part(part_file(self.folder, number), pl.concat(frames))
        return {"users": len(ids)}


def write(
    recommender: Recommender,
    users: pl.Series | None,
    out: Path,
    question: Question,
    *,
    opened: Callable[[], Recommender],
    workers: int,
    progress: Progress | None = None,
) -> int:
    """As nmtr.serving.batch.write does, by so many actors; `out` where every machine sees it.

    opened: what opens the same recommender in each actor; users: None for all. Returns the rows.
    """
    ids = recommender.users if users is None else users
    parts = Parts(out.resolve(), recommender, ids, question)
    recommender.service.filters.of(question.rules)  # wrong rules are refused before Ray starts
    files = [part_file(parts.folder, n) for n in range(-(-len(ids) // serving.CHUNK))]
    missing = [{"number": n} for n, each in enumerate(files) if not each.exists()]
    if missing:
        parts.begin()
        with cluster(workers):
            from ray import data

            done = len(ids) - sum(len(ids[_cut(each["number"])]) for each in missing)
            scored = data.from_items(missing, override_num_blocks=len(missing)).map(
                Scorer,
                fn_constructor_args=(opened, users, parts.folder, question, parts.now),
                compute=data.ActorPoolStrategy(size=workers),
                num_cpus=1,
            )
            for row in scored.iter_rows():
                done += row["users"]
                if progress:
                    progress(done, len(ids))
    parts.files = files
    return parts.put_together()


def _cut(number: int) -> slice:
    return slice(number * serving.CHUNK, (number + 1) * serving.CHUNK)
