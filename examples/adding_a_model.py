# %% [markdown]
# # Adding a model
# A model that counts: how often an item was met, each behaviour at its own weight. In a file of its
# own in `src/nmtr/models/`, every command finds it; docs/add-a-model.md has one that is trained.

# %%
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmtr import ReadOptions, interactions
from nmtr.data.records import Histories, Records
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.evaluation.report import baselines, evaluate
from nmtr.models.base import Model, Shape


# %%
@dataclass(frozen=True)
class Config:
    """later: how much more each behaviour counts than the one before it."""

    later: float = 3.0


class WeightedPopularity(Model):
    """One score per item, the same for everybody."""

    reads = True
    count: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.register_buffer("count", torch.zeros(shape.n_items))

    def learn(self, records: Records) -> None:
        for r, pairs in enumerate(records.sets):
            met = np.bincount(pairs.indices, minlength=self.shape.n_items)
            self.count += torch.from_numpy(met * self.config.later**r).float()

    def encode(self, histories: Histories) -> Tensor:
        return torch.zeros(len(histories.users), 1)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = self.count if items is None else self.count[items]
        return scores.expand(len(state), self.shape.n_behaviors, -1)


# %%
BEHAVIORS = ("view", "cart", "buy")
shop = Path(tempfile.mkdtemp()) / "shop"
simulate(SimulatorConfig(users=150, items=80, events=6000), shop)
data = interactions(
    f"{shop}/events-*.parquet",
    behaviors=BEHAVIORS,
    options=ReadOptions(behaviors=BEHAVIORS, unknown="drop"),
)
from nmtr.data.split import default_protocol, split  # noqa: E402

parts = split(data, default_protocol(data), fold="validation")
model = WeightedPopularity(Config(), Shape(data.n_users, data.n_items, data.behaviors))
model.learn(parts.train)
for result in [evaluate(model, parts, name="weighted"), *baselines(parts)]:
    print(f"{result.model:<12} ndcg@10 {result.values['all']['ndcg@10'].mean():.4f}")
