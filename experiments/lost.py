"""A simulated shop a share of whose views and carts were lost: do they help where an item is new?

    python experiments/lost.py runs/lost
    nmtr reproduce table2 --data runs/lost/data --out runs/reproduce-lost --presets beibei ...
    nmtr reproduce table3 --data runs/lost/data --out runs/reproduce-lost --presets beibei ...

In the simulated shop nobody buys what they have not viewed and put in the cart, so that no held-out
purchase is new to its user. Here a third of all pairs, by a hash (of Polars, as pinned), have no
view and no cart: as where a tracker fails, and whether or not the pair will be held out, so that
nothing tells which it was. Purchases are all there; of each user one is held out at random, and
times are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
from common import BEHAVIORS

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.prepare import prepare
from nmtr.data.simulator import SimulatorConfig, simulate

SHOP = SimulatorConfig(users=10_000, items=4_000, events=1_000_000)
LOST = 3  # one pair of so many


def main(out: Path) -> None:
    home = simulate(SHOP, out / "simulated")
    log = pl.read_parquet(home / "events-*.parquet").filter(pl.col("behavior").is_in(BEHAVIORS))
    pair = pl.concat_str(
        *(pl.col(each).cast(pl.String) for each in ("user_id", "item_id")), separator=" "
    )
    kept = log.filter((pl.col("behavior") == BEHAVIORS[-1]) | (pair.hash(seed=1) % LOST > 0))
    kept.drop("timestamp").write_parquet(out / "log.parquet")
    options = ReadOptions(behaviors=BEHAVIORS)
    events = read_events([out / "log.parquet"], options)
    data = prepare(events, behaviors=BEHAVIORS, holdout="random", options=options)
    data.save(out / "data")
    print(
        f"{out / 'data'}: {data.n_users:,} users, {data.n_items:,} items, {data.n_events:,} pairs"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
