"""Recommendations as frames: the best items of many users, with the score of every behaviour."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.evaluation.calibration import Calibration
from nmtr.evaluation.ranking import Progress
from nmtr.models.base import Model
from nmtr.serving.bundle import Bundle
from nmtr.serving.requests import Slice
from nmtr.serving.rules import Rules
from nmtr.serving.service import Ask, Found, Service
from nmtr.training.folder import Run

CHUNK = 4096  # users recommended to at once, so that memory does not grow with their number


class Recommender:
    """Recommends to users of the log, and popular items to others, by a Service."""

    def __init__(
        self,
        model: Model,
        data: Interactions,
        calibration: Calibration | None = None,
        *,
        trained_users: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """trained_users: (M,) which users the model was trained on, if not all."""
        self.service = Service(model, data, calibration, trained_users=trained_users)

    @classmethod
    def of(cls, source: Run | Bundle | Service, *, candidates: int = 0) -> Recommender:
        """Recommend by a run's model, a bundle, or a service.

        candidates: rank so many of each user's alone, found by an index; 0 ranks all items. A
        service has its own. Raises UsageError where the model has no such index.
        """
        found = cls.__new__(cls)
        if isinstance(source, Service):
            found.service = source
        else:
            found.service = Service.of(source, candidates=candidates)
        return found

    @property
    def users(self) -> pl.Series:
        """The ids of all users of the log."""
        return self.service.data.users.ids

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the columns per behaviour: p_ where they are probabilities, score_ where not."""
        prefix = "p" if self.service.calibration else "score"
        return tuple(f"{prefix}_{each}" for each in self.service.behaviors)

    def recommend(
        self,
        users: Sequence[object] | pl.Series,
        *,
        k: int = 20,
        repeats: bool | None = None,
        exclude_seen: bool = False,
        slice: Slice = "all",
        rules: Rules | None = None,
    ) -> pl.DataFrame:
        """The best k items of each user.

        Columns: user_id, rank, item_id, score, one per behaviour, basis. basis is `model`, or
        `fold-in` for a user whose records training did not see, or `popular` for one who has none
        (the score is then the number of buyers) or for whom the rules left nothing else. Fewer than
        k rows where nothing else is left. repeats, exclude_seen: short for the rules that let
        bought items back and leave out seen ones; repeats: None for what the data set was prepared
        for.
        """
        ids = users if isinstance(users, pl.Series) else _series(users)
        chosen = choose(repeats=repeats, exclude_seen=exclude_seen, rules=rules)
        frames = list(self.stream(ids, k=k, slice=slice, rules=chosen))
        return pl.concat(frames) if frames else self._frame(ids, self.service.rank([]))

    def stream(
        self,
        users: pl.Series,
        *,
        k: int,
        slice: Slice = "all",
        rules: Rules | None = None,
        now: int | None = None,
        start: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[pl.DataFrame]:
        """The same in parts of CHUNK users, in the order given, from the part `start` on.

        now: milliseconds since 1970 UTC, for repurchase windows; None for the clock's.
        """
        if k < 1:
            raise UsageError(f"k: expected at least 1, got {k}")
        service, now = self.service, int(time.time() * 1000) if now is None else now
        service.filters.of(rules or Rules())  # wrong rules are refused before the first part
        for at in range(start * CHUNK, len(users), CHUNK):
            ids = users.slice(at, CHUNK)
            index = service.data.users.indices(ids).tolist()
            known = (service.ledger.at(each) for each in index)
            asks = [Ask(each, k, slice, rules or Rules(), now) for each in known]
            yield self._frame(ids, service.rank(asks))
            if progress:
                progress(at + len(ids), len(users))

    def _frame(self, ids: pl.Series, found: Found) -> pl.DataFrame:
        row, rank = np.nonzero(found.items >= 0)
        items = self.service.data.items.take(found.items[row, rank])
        columns = {
            "user_id": ids.gather(pl.Series(row)),
            "rank": (rank + 1).astype(np.int32),
            "item_id": items,
            "score": found.scores[row, rank],
        }
        columns |= {name: found.shown[row, r, rank] for r, name in enumerate(self.shown)}
        bases = pl.Series(found.bases, dtype=pl.String).gather(pl.Series(row))
        return pl.DataFrame(columns).with_columns(basis=bases)


def choose(
    *, repeats: bool | None = None, exclude_seen: bool = False, rules: Rules | None = None
) -> Rules:
    """Rules, with what the short forms say; UsageError where they do not fit."""
    found = rules or Rules()
    said = {True: "nothing", False: "bought", None: found.exclude}
    try:
        return replace(found, exclude="seen" if exclude_seen else said[repeats])
    except ValueError as error:
        raise UsageError(f"rules, {error}") from error


def _series(users: Sequence[object]) -> pl.Series:
    if isinstance(users, str | bytes | int):
        raise UsageError(f"users: expected a list of ids, got one; write [{users!r}]")
    try:
        return pl.Series("user_id", users)
    except TypeError as error:
        raise UsageError("users: expected ids of one type, all text or all integers") from error
