# %% [markdown]
# # Comparing models with tests
# Two models on one data set, ranked for the same users of validation, and how sure
# the difference is.

# %%
import tempfile
from pathlib import Path

from nmtr import ReadOptions, interactions
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.training.compared import compare_runs
from nmtr.training.run import Settings, execute
from nmtr.training.trainer import Training

BEHAVIORS = ("view", "cart", "buy")
home = Path(tempfile.mkdtemp())
simulate(SimulatorConfig(users=150, items=80, events=6000), home / "shop")
data = interactions(
    f"{home}/shop/events-*.parquet",
    behaviors=BEHAVIORS,
    options=ReadOptions(behaviors=BEHAVIORS, unknown="drop"),
)

# %%
cascade = Settings("nmtr-gmf", options={"embedding": 8}, training=Training(epochs=3, threads=1))
for name, settings in {"cascade": cascade, "ease": Settings("ease")}.items():
    execute(data, settings, home / name)

# %%
found = compare_runs([home / "cascade", home / "ease"], metric="ndcg@10")
for each in found.comparison.models:
    print(f"{each.name:<12} {each.mean:.4f}, 95 % between {each.low:.4f} and {each.high:.4f}")
for pair in found.comparison.pairs:
    print(pair.sentence)
