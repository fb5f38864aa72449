# %% [markdown]
# # What if they cart it?
# The score of an item before and after its user viewed it, and carted it: events count at once.

# %%
import tempfile
from pathlib import Path

from nmtr import ReadOptions, interactions
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.serving.recommender import Recommender
from nmtr.training.run import Settings, execute
from nmtr.training.trainer import Training

BEHAVIORS = ("view", "cart", "buy")
shop = Path(tempfile.mkdtemp()) / "shop"
simulate(SimulatorConfig(users=150, items=80, events=6000), shop)
data = interactions(
    f"{shop}/events-*.parquet",
    behaviors=BEHAVIORS,
    options=ReadOptions(behaviors=BEHAVIORS, unknown="drop"),
)
settings = Settings("nmtr-gmf", options={"embedding": 8}, training=Training(epochs=12, threads=1))
service = Recommender.of(execute(data, settings)).service

# %%
from nmtr.serving.requests import Event, Request  # noqa: E402
from nmtr.serving.rules import Rules  # noqa: E402

user = data.users.ids[0]
everything = Rules(exclude="nothing")
first = service.recommend(Request(user=user, slice="new", k=5, rules=everything))
item = first.items[-1].item


def score(*behaviors: str) -> dict[str, float]:
    """The item's probability for each behaviour, after these events."""
    events = tuple(Event(item, each) for each in behaviors)
    answer = service.recommend(Request(user=user, events=events, k=data.n_items, rules=everything))
    return next(dict(each.behaviors) for each in answer.items if each.item == item)


for done in ((), ("view",), ("view", "cart")):
    found = score(*done)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    print(f"{' then '.join(done) or 'nothing yet':<16} {figures}")
