"""The library's front: fit, recommend, evaluate, save, load, in scikit-learn manners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from nmtr.data.events import EventLog, ReadOptions, from_frame, read_events
from nmtr.data.frames import to_frame
from nmtr.data.interactions import Interactions
from nmtr.data.interactions import load as load_data
from nmtr.data.matrices import Ids, are_matrices, from_matrices, refuse_ids
from nmtr.data.prepare import prepare
from nmtr.errors import NmtrError, UsageError
from nmtr.evaluation.report import baselines, evaluate, to_json
from nmtr.files import replace_folder
from nmtr.models import nmtr as model_file
from nmtr.options import build, check_name
from nmtr.serving.recommender import Recommender
from nmtr.training.folder import check_replaceable
from nmtr.training.run import Run, Settings, execute, open_run, save_run
from nmtr.training.trainer import Training


def interactions(
    events: Any,
    behaviors: Sequence[str],
    *,
    holdout: str | Path = "auto",
    repurchase: bool = False,
    options: ReadOptions | None = None,
    users: Ids = None,
    items: Ids = None,
) -> Interactions:
    """Prepare events for fitting: a frame, a file, or a sparse matrix for each behaviour.

    events: a frame (Polars, pandas, or a mapping of columns) of one event each row, columns found
    by their usual names (user_id, item_id, behavior, timestamp) or named by `options`, as
    ReadOptions(user="visitor", behaviors=...); a path, which is read as `nmtr prepare` reads it;
    or a mapping of behaviour to SciPy sparse matrix (users, items), in which every stored value
    but 0 is one event, and whose rows and columns are called by `users` and `items`, else by their
    numbers. behaviors: ordered, the target last. holdout: as `nmtr prepare --holdout`. Raises
    DataError where the events cannot be read as promised; where its message names a flag such as
    --user, the option here is ReadOptions(user=...).
    """
    if isinstance(behaviors, str):
        raise UsageError(f"behaviors: expected a list of names, got one text, {behaviors!r}")
    chosen = options or ReadOptions(behaviors=tuple(behaviors))
    if are_matrices(events):
        log = from_frame(from_matrices(events, users=users, items=items), chosen)
    else:
        refuse_ids(users, items)
        log = _read(events, chosen)
    return prepare(log, behaviors=behaviors, holdout=holdout, repurchase=repurchase, options=chosen)


def _read(events: Any, options: ReadOptions) -> EventLog:
    if isinstance(events, str | Path):
        return read_events([events], options)
    return from_frame(to_frame(events), options)


class NMTR:
    """The cascade of behaviours (Gao et al., ICDE 2019) as an estimator.

    Options are those of the model (unit, cascade, embedding, layers, ...) and of training
    (learning_rate, epochs, seed, ...), by keyword; `get_params` lists them with their values.
    Fitting chooses the number of epochs on validation and fits again on all but test.
    """

    def __init__(self, *, protocol: str = "", **params: Any) -> None:
        of_training = [each.name for each in fields(Training)]
        of_model = [each.name for each in fields(model_file.Config)]
        for name in params:
            check_name(name, [*of_model, *of_training, "protocol"], where="NMTR")
        mine = {name: value for name, value in params.items() if name not in of_training}
        self._config = build(model_file.Config, mine, where="NMTR")
        self._training = build(
            Training,
            {name: value for name, value in params.items() if name in of_training},
            where="NMTR",
        )
        self._options = mine
        self._protocol = protocol
        self.run_: Run | None = None
        self._recommender: Recommender | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every option and its value."""
        values = {each.name: getattr(self._config, each.name) for each in fields(model_file.Config)}
        values |= {each.name: getattr(self._training, each.name) for each in fields(Training)}
        return values | {"protocol": self._protocol}

    def set_params(self, **params: Any) -> NMTR:
        """Change options; what was fitted with the old ones is forgotten."""
        if not params:
            return self
        fresh = NMTR(**{**self.get_params(), **params})
        self.__dict__.update(fresh.__dict__)
        return self

    def fit(self, data: Interactions, y: None = None) -> NMTR:
        """Learn from prepared interactions; returns self. `y` is there for scikit-learn only."""
        if not isinstance(data, Interactions):
            raise UsageError(
                f"fit expects prepared interactions, got {type(data).__name__}; make them with "
                "nmtr.interactions(events, behaviors) or nmtr.load(folder)"
            )
        settings = Settings("nmtr", self._protocol, self._options, self._training)
        self.run_, self._recommender = execute(data, settings), None
        return self

    def recommend(
        self, users: Sequence[object] | pl.Series, *, k: int = 20, **how: Any
    ) -> pl.DataFrame:
        """The best k items of each user (Recommender.recommend)."""
        self._recommender = self._recommender or Recommender.of(self._fitted())
        return self._recommender.recommend(users, k=k, **how)

    def evaluate(self, *, fold: str = "test") -> Mapping[str, Any]:
        """Metrics by slice with intervals, popularity and replay, and the protocol in words.

        fold: `test`, which must choose nothing (log that you read it), or `validation`; for the
        latter this model has seen the validation pairs, so only baselines are meaningful there.
        """
        run = self._fitted()
        parts = run.split(fold=fold)
        return to_json([evaluate(run.model, parts, name="nmtr"), *baselines(parts)], parts)

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator and its data to a folder (no pickle).

        An estimator saved there before is replaced; raises UsageError for any other folder.
        """
        run = self._fitted()
        check_replaceable(Path(path))
        with replace_folder(Path(path)) as folder:
            run.data.save(folder / "data")
            save_run(replace(run, data=load_data(folder / "data")), folder)

    @classmethod
    def load(cls, path: str | Path) -> NMTR:
        """Open what `save` wrote; raises UsageError or DamagedError."""
        run = open_run(Path(path))
        if not isinstance(run.model, model_file.NMTR):
            raise UsageError(f"{path} holds a {run.settings.model}, not an NMTR")
        training = {
            each.name: getattr(run.settings.training, each.name) for each in fields(Training)
        }
        options = vars(run.model.config)
        found = cls(protocol=run.settings.protocol, **options, **training)
        found.run_ = run
        return found

    def _fitted(self) -> Run:
        if self.run_ is None:
            raise NmtrError("this NMTR is not fitted yet; call fit(interactions) first")
        return self.run_
