"""Do attributes help where training has no record? On simulated shops, whose truth is known.

    python experiments/features.py        # writes results/features.json and results/features.md

A shop's log loses every event of a tenth of its items and of a tenth of its users: both are known
by their attributes alone (category and price; income and favourite category). One buy of each of
those users, of each user who bought a cold item, and one of each of the rest is held out. All items
that the user has no training buy of are ranked. Settings were tried on another shop, of seed 7;
nothing is chosen here.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from common import RESULTS, machine

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.features import with_attributes
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.data.split import Split, split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models.base import Model
from nmtr.training.selection import new_model
from nmtr.training.settings import Settings
from nmtr.training.trainer import Training, train

BEHAVIORS = ("view", "cart", "buy")
SEEDS = (0, 1, 2)
SHARE = 0.1
TRAINING = Training(learning_rate=0.05, epochs=12, select="none", calibrate=False, threads=1)
OPTIONS = {"embedding": 32, "l2": 0.01}
SLICES = ("cold items", "cold users", "warm")


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        data, slices = shop(seed)
        parts = split(data, "as-published", fold="test")
        for name in ("popularity", "nmtr-gmf", "nmtr-features"):
            began = time.process_time()
            model = fitted(name, data, parts, seed)
            spent = time.process_time() - began
            values = per_user(ranks(model, parts.evaluation), parts.evaluation.truth.indptr)
            which = slices[parts.evaluation.users]
            for n, title in enumerate(SLICES):
                mine = which == n
                row: dict[str, Any] = {
                    "seed": seed,
                    "model": name,
                    "slice": title,
                    "users": int(mine.sum()),
                }
                row |= {each: float(values[each][mine].mean()) for each in ("hr@10", "ndcg@100")}
                rows.append(row | {"cpu_seconds": round(spent, 1)})
    cpu = machine()
    about = {"machine": cpu, "options": OPTIONS, "epochs": TRAINING.epochs, "share": SHARE}
    (RESULTS / "features.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    (RESULTS / "features.md").write_text(table(rows, cpu))
    print(table(rows, cpu))


def shop(seed: int) -> tuple[Interactions, np.ndarray[Any, Any]]:
    """A prepared shop with cold users and items, and each user's slice."""
    with tempfile.TemporaryDirectory() as folder:
        home = simulate(SimulatorConfig(seed=seed), Path(folder) / "shop")
        events = pl.read_parquet(home / "events-*.parquet")
        rng = np.random.default_rng(seed)
        cold = {
            column: drawn(events[column].unique().sort(), rng) for column in ("user_id", "item_id")
        }
        of_user = pl.col("user_id").is_in(cold["user_id"].implode())
        of_item = pl.col("item_id").is_in(cold["item_id"].implode())
        buys = events.filter(pl.col("behavior") == "buy").sample(
            fraction=1.0, shuffle=True, seed=seed
        )
        warm = buys.filter(~of_user & ~of_item)
        first = warm.unique("user_id", maintain_order=True)
        held = pl.concat(
            [
                buys.filter(of_user & ~of_item).with_columns(slice=pl.lit(1)),
                buys.filter(of_item & ~of_user).with_columns(slice=pl.lit(0)),
                first.with_columns(slice=pl.lit(2)),
            ]
        ).unique("user_id", keep="first", maintain_order=True)
        kept = events.filter(~of_user & ~of_item).join(
            held.select("user_id", "item_id"), on=["user_id", "item_id"], how="anti"
        )
        kept.drop("timestamp").write_parquet(home / "kept.parquet")
        held.select("user_id", "item_id", "behavior").write_parquet(home / "held.parquet")
        options = ReadOptions(behaviors=BEHAVIORS)
        log = read_events([home / "kept.parquet"], options)
        data = prepare(log, behaviors=BEHAVIORS, holdout=home / "held.parquet", options=options)
        given = {each: home / f"{each}.parquet" for each in ("items", "users")}
        data, _ = with_attributes(data, **given)
    of_each = np.full(data.n_users, -1)
    of_each[data.users.indices(held["user_id"])] = held["slice"].to_numpy()
    return data, of_each


def drawn(ids: pl.Series, rng: np.random.Generator) -> pl.Series:
    return ids.gather(np.sort(rng.permutation(len(ids))[: int(SHARE * len(ids))]))


def fitted(name: str, data: Interactions, parts: Split, seed: int) -> Model:
    training = Training(**{**TRAINING.__dict__, "seed": seed})
    options = OPTIONS if name.startswith("nmtr") else {}
    model = new_model(data, Settings(name, "as-published", options, training))
    if model.trained:
        train(model, parts.train, training, phase=name, epochs=training.epochs)
    else:
        model.learn(parts.train)
    return model.eval()


def table(rows: list[dict[str, Any]], about: dict[str, str]) -> str:
    """Means over the seeds, and the range of NDCG@100."""
    names = list(dict.fromkeys(row["model"] for row in rows))
    lines = ["| slice | users a seed | " + " | ".join(names) + " |"]
    lines += ["|---|---|" + "---|" * len(names)]
    for title in SLICES:
        mine = [row for row in rows if row["slice"] == title]
        cells = []
        for name in names:
            of_model = [row for row in mine if row["model"] == name]
            hr, ndcg = ([row[each] for row in of_model] for each in ("hr@10", "ndcg@100"))
            spread = f"{min(ndcg):.4f} to {max(ndcg):.4f}"
            cells.append(f"{np.mean(hr):.4f}/{np.mean(ndcg):.4f} ({spread})")
        users = np.mean([row["users"] for row in mine])
        lines.append(f"| {title} | {users:.0f} | " + " | ".join(cells) + " |")
    head = (
        "# Attributes where training has no record\n\nHR@10/NDCG@100, means over seeds "
        f"{', '.join(map(str, SEEDS))} (in brackets: NDCG@100 from the lowest to the highest).\n"
    )
    foot = f"\n{about['date']}, {about['cpu']}, nmtr {about['nmtr']}, torch {about['torch']}.\n"
    return head + "\n" + "\n".join(lines) + "\n" + foot


if __name__ == "__main__":
    main()
