"""What validation chooses by: training on the log less its hold-out, and ranking the held-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from nmtr.data.features import Features, features_of
from nmtr.data.interactions import Interactions
from nmtr.data.records import Histories, Records
from nmtr.data.split import Evaluation, Split, split
from nmtr.data.vocabulary import mix
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models import describes, make
from nmtr.models.base import Model, Shape
from nmtr.training.settings import Settings
from nmtr.training.trainer import Measure


@dataclass(frozen=True)
class Selection:
    """What trains before validation chooses, and whom it ranks."""

    split: Split

    @classmethod
    def of(cls, data: Interactions, settings: Settings) -> Selection:
        parts = split(data, settings.protocol, fold="validation")
        ranked = sample_users(data, parts.evaluation, settings.validation_users)
        return cls(replace(parts, evaluation=ranked))

    @property
    def records(self) -> Records:
        return self.split.train

    def measure(self, metric: str) -> Measure:
        """What gives a model's metric, hr@100 and ndcg@100, means over the users ranked."""
        evaluation = self.split.evaluation

        def measured(model: Model) -> Mapping[str, float]:
            values = per_user(ranks(model, evaluation), evaluation.truth.indptr)
            return {name: float(values[name].mean()) for name in (metric, "hr@100", "ndcg@100")}

        return measured


def new_model(data: Interactions | Shape, settings: Settings) -> Model:
    """An untrained model of this shape, the same whenever it is made."""
    torch.manual_seed(settings.training.seed)
    if not isinstance(data, Shape):
        features = features_of(data) if describes(settings.model) else Features()
        data = Shape(data.n_users, data.n_items, data.behaviors, features)
    return make(settings.model, settings.options, data)


def sample_users(data: Interactions, evaluation: Evaluation, users: int) -> Evaluation:
    """The evaluation of `users` of its users, chosen by hash; of all where 0."""
    if not 0 < users < len(evaluation.users):
        return evaluation
    hashes = data.user_hash[evaluation.users]
    rows = np.sort(np.argsort(mix(hashes, hashes, salt=5))[:users])
    wanted = np.isin(evaluation.truth.row_of_each(), rows)
    histories = evaluation.histories
    return Evaluation(
        evaluation.users[rows],
        Histories(histories.users[rows], tuple(each.take(rows) for each in histories.items)),
        evaluation.truth.take(rows),
        evaluation.mask.take(rows),
        evaluation.in_funnel[wanted],
        evaluation.sealed[rows],
    )
