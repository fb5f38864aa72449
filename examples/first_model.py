# %% [markdown]
# # A first model
# A simulated shop, a cascade of its behaviours, and what it recommends. The cells open as a
# notebook in VS Code, PyCharm and Jupyter (with Jupytext); `python examples/first_model.py` runs
# them all.

# %%
import tempfile
from pathlib import Path

from nmtr import NMTR, ReadOptions, interactions
from nmtr.data.simulator import SimulatorConfig, simulate

BEHAVIORS = ("view", "cart", "buy")
shop = Path(tempfile.mkdtemp()) / "shop"
simulate(SimulatorConfig(users=150, items=80, events=6000), shop)
data = interactions(
    f"{shop}/events-*.parquet",
    behaviors=BEHAVIORS,
    options=ReadOptions(behaviors=BEHAVIORS, unknown="drop"),
)
print(f"{data.n_users} users, {data.n_items} items; {data.holdout['rule']} is held out")

# %%
model = NMTR(unit="gmf", embedding=8, epochs=3, threads=1).fit(data)
print(model.recommend(data.users.ids.head(2), k=3))

# %% [markdown]
# Memory is the baseline to beat: `popularity` and `replay` stand beside the model. This reads the
# test, so choose nothing by it.

# %%
report = model.evaluate()
for name, slices in report["models"].items():
    print(f"{name:<12} ndcg@10 {slices['all']['ndcg@10']['mean']:.4f}")
