"""Who stands beside nmtr-funnel in past.py, with what settings, and how these are chosen."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from common import RESULTS
from torch import Tensor

from nmtr.data.interactions import Interactions
from nmtr.data.records import Histories, Records
from nmtr.data.simulator import Truth
from nmtr.data.split import Evaluation, Split, split
from nmtr.data.vocabulary import Vocabulary
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models.base import Model
from nmtr.models.ease import Ease
from nmtr.models.observed import ages
from nmtr.training.presets import presets
from nmtr.training.selection import new_model, sample_users
from nmtr.training.settings import Settings, read_settings
from nmtr.training.trainer import Training, train

OWN, OF_TARGET = "nmtr-funnel", "nmtr-funnel, members of the target"
OUTSIDE = "nmtr-funnel, members of the target outside"
OURS = (OWN, OF_TARGET, OUTSIDE)
CHOICE = "ndcg@100"
USERS = 4000  # of validation, who choose
MOST_EPOCHS = 12
MANY = 20_000  # items
OF_LIGHTGCN = {"learning_rate": 0.2, "batch_size": 32_768, "epochs": 40}  # as tuned on Beibei


@dataclass(frozen=True)
class Contender:
    """A model with its options; epochs for one that is trained, or None to let validation say.

    training: what of its training is not as _how says.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def made(self, data: Interactions, seed: int = 0) -> Model:
        how = self.how(seed)
        return new_model(data, Settings(self.model, options=self.options, training=how))

    def learned(self, data: Interactions, records: Records, seed: int = 0) -> Model:
        """Made and taught; one that is trained, for its epochs."""
        model = self.made(data, seed)
        if model.trained:
            assert self.epochs, f"{self.model}: validation has not chosen its epochs"
            train(model, records, self.how(seed), phase=self.model, epochs=self.epochs)
        else:
            model.learn(records)
        return model.eval()

    def how(self, seed: int) -> Training:
        """How it is trained, if it is."""
        return replace(_how(seed), **self.training)


def _how(seed: int) -> Training:
    return Training(
        learning_rate=0.05, epochs=MOST_EPOCHS, patience=2, select=CHOICE, seed=seed,
        calibrate=False, threads=torch.get_num_threads(),
    )  # fmt: skip


def own(protocol: str) -> dict[str, Any]:
    """The preset's options, chosen on Beibei; where what is observed is masked, all is hidden."""
    return _preset(OWN) | ({"hide": 1.0} if protocol == "discovery" else {})


def _preset(model: str) -> dict[str, Any]:
    settings, _ = read_settings(presets()[f"beibei/as-published/{model}"])
    return {**settings.options}


def _grids(protocol: str, items: int) -> dict[str, list[Contender]]:
    """Four settings of each, from which validation chooses, but of those that have none.

    Where items are many, EASE of all takes minutes: it has one, and nmtr-funnel does without.
    """
    half, quarter = (0.5, 0.5, 1.0), (0.25, 0.5, 1.0)
    ials = {"embedding": 256, "ridge": 0.04, "alpha0": 0.05, "nu": 0.8}
    mine, many = own(protocol), items > MANY
    if many:
        mine["members"] = tuple(each for each in mine["members"] if each != "ease-all")
    small = {**mine, "members": ("ease", "ials")}
    changes = _of_funnel(protocol)
    return {
        "popularity": [Contender("popularity")],
        "replay": [Contender("replay")],
        "EASE": [Contender("ease", {"ridge": each}) for each in (20.0, 100.0, 200.0, 1000.0)],
        "EASE of all": [
            Contender("ease", {"ridge": ridge, "weights": weights})
            for ridge in (200.0, 1000.0)
            for weights in (half, quarter)
        ][: 1 if many else None],
        "ItemKNN": [
            Contender("itemknn", {"k": k, "shrink": shrink})
            for k in (100, 1000)
            for shrink in (1.0, 10.0)
        ],
        "ItemKNN of all": [
            Contender("itemknn", {"k": k, "weights": weights})
            for k in (100, 1000)
            for weights in (half, quarter)
        ],
        "iALS": [
            Contender("ials", ials | {"embedding": size, "ridge": ridge})
            for size in (64, 256)
            for ridge in (0.01, 0.04)
        ],
        "iALS of all": [
            Contender("ials", ials | {"ridge": ridge, "weights": weights})
            for ridge in (0.01, 0.04)
            for weights in ((0.075, 0.15, 1.0), quarter)
        ],
        "LightGCN": [
            Contender("lightgcn", {"layers": layers, "l2": l2}, training=OF_LIGHTGCN)
            for layers in (2, 3)
            for l2 in (0.001, 0.004)
        ],
        "LightGCN of all": [
            Contender("lightgcn", {"l2": l2, "weights": weights}, training=OF_LIGHTGCN)
            for l2 in (0.001, 0.004)
            for weights in (half, (0.15, 0.45, 1.0))
        ],
        "nmtr-gmf": [Contender("nmtr-gmf", {"l2": each}) for each in (0.003, 0.01, 0.02, 0.05)],
        OWN: [Contender(OWN, mine | each) for each in changes],
        OF_TARGET: [Contender(OWN, small | each) for each in changes],
    }


def _of_funnel(protocol: str) -> list[dict[str, Any]]:
    """How nmtr-funnel may differ from its preset."""
    if protocol == "time":
        return [
            {"hide": 0.15, "recency": False},
            {"hide": 0.15, "recency": True},
            {"hide": 0.0, "recency": True},
            {"hide": 0.15, "recency": True, "counts": True},
        ]
    hides = (1.0,) if protocol == "discovery" else (0.15, 0.5)
    return [{"hide": hide, "counts": counts} for hide in hides for counts in (False, True)]


def fixed(protocol: str) -> dict[str, Contender]:
    """Beibei's, chosen on its validation by `nmtr tune` and by hand, before this was written.

    EASE and iALS are as nmtr-funnel has them as members; of all behaviours, as tuned by themselves
    for as-published too, where heavy carts make them remember the cart.
    """
    ials = {"embedding": 256, "ridge": 0.04, "alpha0": 0.05, "nu": 0.8}
    graph = {"layers": 2, "l2": 0.00386}
    of_all = graph | {"weights": (0.146, 0.437, 1.0)}
    of_target = ("ease", "ials")
    return {
        "popularity": Contender("popularity"),
        "replay": Contender("replay"),
        "EASE": Contender("ease", {"ridge": 200.0}),
        "EASE of all": Contender("ease", {"ridge": 1000.0, "weights": (0.25, 0.5, 1.0)}),
        "iALS": Contender("ials", ials),
        "iALS of all": Contender("ials", ials | {"weights": (0.075, 0.15, 1.0)}),
        "EASE of all, by its preset": Contender("ease", _preset("ease")),
        "iALS of all, by its preset": Contender("ials", _preset("ials")),
        "LightGCN": Contender("lightgcn", graph, 17, OF_LIGHTGCN),
        "LightGCN of all": Contender("lightgcn", of_all, 13, OF_LIGHTGCN),
        OWN: Contender(OWN, own(protocol)),
        OF_TARGET: Contender(OWN, own(protocol) | {"members": of_target}),
        OUTSIDE: Contender(OWN, own(protocol) | {"outside": of_target}),
    }


def chosen(name: str, data: Interactions, protocol: str) -> dict[str, Contender]:
    """Each contender's best settings on validation; kept, a line for each trial."""
    if name == "beibei":
        return fixed(protocol)
    path = RESULTS / f"past-tuning-{name}.json"
    kept: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}
    parts = split(data, protocol, fold="validation")
    ranked = replace(parts, evaluation=sample_users(data, parts.evaluation, USERS))
    found = {}
    for title, grid in _grids(protocol, data.n_items).items():
        lines = kept.setdefault(f"{protocol}: {title}", [])
        for each in grid[len(lines) :]:
            began = time.monotonic()
            value, epochs = _tried(each, data, ranked) if len(grid) > 1 else (0.0, None)
            lines.append(
                {"model": each.model, "options": dict(each.options), "epochs": epochs,
                 "training": dict(each.training), CHOICE: round(value, 5),
                 "seconds": round(time.monotonic() - began, 1)}
            )  # fmt: skip
            print(f"{name}, {protocol}, {title}: {lines[-1]}", flush=True)
            path.write_text(json.dumps(kept, indent=1) + "\n")
        best = max(lines, key=lambda line: float(line[CHOICE]))
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in best["options"].items()}
        found[title] = Contender(best["model"], options, best["epochs"], best.get("training", {}))
    return found


def _tried(each: Contender, data: Interactions, parts: Split) -> tuple[float, int | None]:
    """Its value on validation, and after how many epochs."""
    model = each.made(data)
    if not model.trained:
        return _value(each.learned(data, parts.train), parts), None
    state = train(
        model, parts.train, each.how(0), phase="trial", epochs=each.how(0).epochs,
        measure=lambda model: {CHOICE: _value(model, parts)},
    )  # fmt: skip
    return state.best_value, state.best_epoch


def _value(model: Model, parts: Split) -> float:
    found = per_user(ranks(model, parts.evaluation), parts.evaluation.truth.indptr)
    return float(found[CHOICE].mean())


class OrderedReplay(Ease):
    """Items under the behaviour below the target first; EASE on the target orders both parts."""

    before = slice(-2, -1)

    def encode(self, histories: Histories) -> Tensor:
        found = super().encode(histories)
        for each in histories.items[self.before]:
            row, item = (torch.from_numpy(x) for x in (each.row_of_each(), each.indices))
            found[row, item.long()] += 10.0
        return found


class DeepReplay(OrderedReplay):
    """The same down to the lowest behaviour: first what has most of them."""

    before = slice(0, -1)


class LatestReplay(DeepReplay):
    """The same where there are times: at each level what came last is first."""

    def encode(self, histories: Histories) -> Tensor:
        found = super().encode(histories)
        sets = histories.items[self.before]
        for each, of_pairs in zip(sets, ages(histories), strict=True):
            row, item = (torch.from_numpy(x) for x in (each.row_of_each(), each.indices))
            found[row, item.long()] += 5.0 * (1 - of_pairs[:, 1]).clamp(min=0)
        return found


REPLAYS: dict[str, type[OrderedReplay]] = {
    "replay, by EASE": OrderedReplay,
    "replay of every level, by EASE": DeepReplay,
}
BY_TIME: dict[str, type[OrderedReplay]] = {"replay of every level, latest first": LatestReplay}


class Oracle(Model):
    """A simulated shop's true probability of a buy from the cut on, for users by their index."""

    def __init__(self, data: Interactions, home: Path) -> None:
        like = Contender("popularity").made(data)
        super().__init__(like.config, like.shape)
        self.truth, self.start = Truth.load(home / "truth"), int(data.holdout["cut"])
        self.places = _places(data.users, self.truth.user_ids)
        self.items = _places(data.items, self.truth.item_ids)

    def encode(self, histories: Histories) -> Tensor:
        true = self.truth.probabilities(self.places[histories.users], start=self.start)
        return torch.from_numpy(true[:, -1][:, self.items])

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state if items is None else state[:, items]
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def told(self, evaluation: Evaluation) -> Evaluation:
        """The same, where also users of whom training knows nothing have their index."""
        known = Histories(evaluation.users, evaluation.histories.items)
        return replace(evaluation, histories=known)


def _places(ids: Vocabulary, among: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each id of the data stands among the simulation's."""
    place = {str(each): n for n, each in enumerate(among.tolist())}
    every = ids.take(np.arange(len(ids)))
    return np.array([place[str(each)] for each in every.to_list()], np.int64)
