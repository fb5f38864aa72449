"""Recommendations by id: the best items of each user, with the score of every behaviour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories, Records
from nmtr.errors import UsageError
from nmtr.evaluation.calibration import Calibration
from nmtr.evaluation.ranking import Progress, top
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.folder import Run

CHUNK = 4096  # users recommended to at once, so that memory does not grow with their number


class Recommender:
    """A fitted model beside the log it serves.

    Every record of the log counts: an item that the user has bought, test or not, never comes back
    unless `repeats`. Ties go in the order of a seeded hash of the item's id. trained_users: (M,)
    which users the model was trained on, if not all; the others are strangers to it, as they are in
    evaluation, but what they did still counts.
    """

    def __init__(
        self,
        model: Model,
        data: Interactions,
        calibration: Calibration | None = None,
        *,
        trained_users: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.model, self.data, self.calibration = model, data, calibration
        self.trained_users = trained_users

    @classmethod
    def of(cls, run: Run) -> Recommender:
        """Serve a run's model."""
        if not run.model.trained:
            return cls(run.model, run.data, run.calibration)
        return cls(run.model, run.data, run.calibration, trained_users=run.trained_users())

    @cached_property
    def records(self) -> Records:
        return self.data.records()

    @cached_property
    def popularity(self) -> Model:
        model = make(
            "popularity", {}, Shape(self.data.n_users, self.data.n_items, self.data.behaviors)
        )
        model.learn(self.records)
        return model

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the columns per behaviour: p_ where they are probabilities, score_ where not."""
        prefix = "p" if self.calibration else "score"
        return tuple(f"{prefix}_{each}" for each in self.data.behaviors)

    def recommend(
        self,
        users: Sequence[object] | pl.Series,
        *,
        k: int = 20,
        repeats: bool | None = None,
        exclude_seen: bool = False,
    ) -> pl.DataFrame:
        """The best k items of each user.

        Columns: user_id, rank, item_id, score, one per behaviour, basis. basis is `model`, or
        `popular` for a user who is not in the log (the score is then the number of buyers). Fewer
        than k rows where nothing else is left. repeats: None for what the data set was prepared
        for.
        """
        ids = users if isinstance(users, pl.Series) else _series(users)
        _check(k)
        frames = list(self.stream(ids, k=k, repeats=repeats, exclude_seen=exclude_seen))
        return (
            pl.concat(frames) if frames else self._frame(ids, np.empty(0, np.int64), k=k, mask=None)
        )

    def stream(
        self,
        users: pl.Series,
        *,
        k: int,
        repeats: bool | None = None,
        exclude_seen: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[pl.DataFrame]:
        """The same in parts, a few thousand users at a time, in the order given."""
        _check(k)
        again = self.data.repurchase if repeats is None else repeats
        for start in range(0, len(users), CHUNK):
            ids = users.slice(start, CHUNK)
            index = self.data.users.indices(ids)
            yield self._frame(
                ids, index, k=k, mask=self._mask(index, again=again, seen=exclude_seen)
            )
            if progress:
                progress(start + len(ids), len(users))

    def _mask(self, index: npt.NDArray[np.int64], *, again: bool, seen: bool) -> CSR:
        if seen:
            return self._seen.take(index)
        if again:
            return CSR(np.zeros(len(index) + 1, np.int64), np.zeros(0, np.int32), self.data.n_items)
        return self.records.target.take(index)

    @cached_property
    def _seen(self) -> CSR:
        return self.records.seen()

    def _frame(
        self, ids: pl.Series, index: npt.NDArray[np.int64], *, k: int, mask: CSR | None
    ) -> pl.DataFrame:
        known = index >= 0
        if mask is None:
            mask = CSR(np.zeros(1, np.int64), np.zeros(0, np.int32), self.data.n_items)
        parts = []
        for model, rows in (
            (self.model, np.flatnonzero(known)),
            (self.popularity, np.flatnonzero(~known)),
        ):
            if len(rows) or not len(ids):
                parts.append((rows, model, *self._top(model, index[rows], mask.take(rows), k)))
        frames = [self._part(ids, index, *each) for each in parts]
        return pl.concat(frames).sort("position", "rank").drop("position")

    def _top(
        self, model: Model, index: npt.NDArray[np.int64], mask: CSR, k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        histories = self.records.histories(index)
        if self.trained_users is not None and model is self.model:
            met = np.where(self.trained_users[index], index, -1)
            histories = replace(histories, users=met)
        k = min(k, self.data.n_items)
        items, scores, levels = top(model, histories, mask, k=k, tie_break=self.data.item_hash)
        if self.calibration and model is self.model:
            levels = self._probabilities(levels, histories)
        elif model is not self.model:
            levels = np.full_like(levels, np.nan)  # a count of buyers is no score of this model
        return items, scores, levels

    def _probabilities(
        self, levels: npt.NDArray[np.float32], histories: Histories
    ) -> npt.NDArray[np.float32]:
        if self.calibration is None:
            raise AssertionError("no calibration")
        found: npt.NDArray[np.float32] = self.calibration.probabilities(
            torch.from_numpy(levels), histories
        ).numpy()
        return found

    def _part(
        self,
        ids: pl.Series,
        index: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        model: Model,
        items: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        levels: npt.NDArray[np.float32],
    ) -> pl.DataFrame:
        row, rank = np.nonzero(items >= 0)
        position = rows[row]
        columns = {
            "position": position,
            "user_id": ids.gather(pl.Series(position)),
            "rank": (rank + 1).astype(np.int32),
            "item_id": self.data.items.take(items[row, rank]),
            "score": scores[row, rank],
        }
        columns |= {name: levels[row, r, rank] for r, name in enumerate(self.shown)}
        frame = pl.DataFrame(columns)
        return frame.with_columns(
            pl.lit("model" if model is self.model else "popular").alias("basis")
        )


def _check(k: int) -> None:
    if k < 1:
        raise UsageError(f"k: expected at least 1, got {k}")


def _series(users: Sequence[object]) -> pl.Series:
    if isinstance(users, str | bytes | int):
        raise UsageError(f"users: expected a list of ids, got one; write [{users!r}]")
    try:
        return pl.Series("user_id", users)
    except TypeError as error:
        raise UsageError("users: expected ids of one type, all text or all integers") from error
