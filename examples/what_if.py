# %% [markdown]
# # What if they cart it?
# Where an item stands with a user before and after they viewed it, and carted it: events count in
# the next answer. `nmtr-funnel` looks at what each user did, and learns from the log what that has
# meant, so what it answers can be held against the log itself.

# %%
import tempfile
from pathlib import Path

import numpy as np

from nmtr import ReadOptions, interactions
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.data.split import split
from nmtr.serving.recommender import Recommender
from nmtr.serving.requests import Event, Request
from nmtr.serving.rules import Rules
from nmtr.training.run import Settings, execute

BEHAVIORS = ("view", "cart", "buy")
shop = Path(tempfile.mkdtemp()) / "shop"
simulate(SimulatorConfig(users=300, items=80, events=15_000), shop)
data = interactions(
    f"{shop}/events-*.parquet",
    behaviors=BEHAVIORS,
    options=ReadOptions(behaviors=BEHAVIORS, unknown="drop"),
)

# %% [markdown]
# First the log. Just before users of validation bought something, how far had they gone with each
# item, and which share of those they had left there was it?

# %%
asked = split(data, fold="validation").evaluation
viewed, carted, bought = (each.keys() for each in asked.histories.items)
every = np.arange(len(asked.users) * data.n_items)
left = {
    "not met": np.setdiff1d(every, viewed),
    "viewed": np.setdiff1d(viewed, carted),
    "in the cart": np.setdiff1d(carted, bought),
}
for name, pairs in left.items():
    print(f"{name:<12} bought next: {np.isin(pairs, asked.truth.keys()).mean():.2%}")

# %% [markdown]
# Then the model. `hide=0`: in this log every buy follows a view, which is dated before it, and the
# model may take that as it is. On logs without times it should not (docs/model.md), and by default
# half of what a user did with an item that they bought is hidden from it.

# %%
service = Recommender.of(execute(data, Settings("nmtr-funnel", options={"hide": 0.0}))).service
everything = Rules(exclude="nothing")


def place(user: object, item: object, *behaviors: str) -> int:
    """Where the item stands among all, 1 the best, after these events."""
    events = tuple(Event(item, each) for each in behaviors)
    answer = service.recommend(Request(user=user, events=events, k=data.n_items, rules=everything))
    return [each.item for each in answer.items].index(item) + 1


# %% [markdown]
# For each of 100 users the item that stands fifth of those that they have not met.

# %%
places = []
for user in data.users.ids[:100]:
    fifth = service.recommend(Request(user=user, slice="new", k=5, rules=everything)).items[-1].item
    steps = ((), ("view",), ("view", "cart"))
    places.append([place(user, fifth, *done) for done in steps])
before, after_view, after_cart = np.array(places).T
print(f"\n{data.users.ids[0]}: place {before[0]}, viewed {after_view[0]}, carted {after_cart[0]}")
print(f"median place: {np.median(before):g}, {np.median(after_view):g}, {np.median(after_cart):g}")
print(f"a view raised the item for {(after_view < before).sum()} of 100 users")
print(f"the cart then raised it again for {(after_cart < after_view).sum()}", end=", ")
print(f"and lowered it for {(after_cart > after_view).sum()}")

# %% [markdown]
# As in the log: what was viewed is bought more often than what was not met, and what lies in the
# cart more often again; so each raises the item. Nobody was asked what they would have done: this
# is what the model would show next, and no promise of what showing it would sell.
