"""Runs a simulated shop and streams its log to Parquet; shop.py holds the equations."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

import nmtr
from nmtr.data.shop.stock import open_shop
from nmtr.data.shop.truth import BEHAVIORS, Truth
from nmtr.data.shop.world import (
    DAY,
    HOUR,
    HOURS,
    REORDER_DAYS,
    Ints,
    Shelves,
    Shop,
    SimulatorConfig,
    rhythm,
)
from nmtr.errors import UsageError

__all__ = ["Events", "SimulatorConfig", "Truth", "draw_events", "simulate"]

FORMAT = 1
EVENTS_PER_FILE = 500_000  # about; fixed, so that memory is bounded and a seed gives the same log
MINUTE = 60_000
VIEW, CART, BUY = range(3)


@dataclass(frozen=True)
class Events:
    """Events as columns (E,): user and item positions, behaviour, ms since 1970 UTC."""

    user: Ints
    item: Ints
    behavior: Ints
    timestamp: Ints


def simulate(
    config: SimulatorConfig, out: Path, *, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Simulate a shop into the new folder `out` and return it.

    Writes events-00000.parquet, ... (user_id str, item_id int64, behavior "view" | "cart" | "buy",
    timestamp int64 ms UTC), items.parquet (item_id, category, price), users.parquet (user_id,
    income, favorite_category), truth/ (see `Truth.load`) and simulation.json (config, counts,
    versions).

    Each events file holds all events of its own range of users, sorted by time: the log as a whole
    is not in time order. Memory is bounded by a file of about 500 000 events plus the shop itself
    (users x (categories + tastes) and items x tastes numbers), unless one user exceeds that size.
    The same config gives the same log on the same NumPy.

    `progress(done, total)` is called with counts of users after each file. Everything is written to
    a hidden folder beside `out` and renamed at the end, so a kill leaves no `out`, and an error
    leaves nothing. Raises `UsageError` where `out` exists and is not an empty folder.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(
            f"simulate: expected a new or empty folder, but {out} exists and holds something; "
            "remove it or name another"
        )
    unfinished = out.parent / f".{out.name}.unfinished-{os.getpid()}"
    unfinished.mkdir(parents=True)
    try:
        _write(config, unfinished, progress)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return out


def _write(
    config: SimulatorConfig, folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    shop = open_shop(config)
    truth = Truth(shop)
    user_ids = pl.Series("user_id", truth.user_ids)
    item_ids = pl.Series("item_id", truth.item_ids)
    behaviors = pl.Series("behavior", BEHAVIORS)
    shelves = Shelves(shop)
    counts = np.zeros(len(BEHAVIORS), dtype=np.int64)
    step = min(config.users, max(1, round(config.users * EVENTS_PER_FILE / config.events)))
    for number, low in enumerate(range(0, config.users, step)):
        high = min(low + step, config.users)
        # A stream of random numbers per file, apart from the one that stocked the shop.
        seed = np.random.SeedSequence(config.seed, spawn_key=(1, number))
        events = draw_events(shop, shelves, np.arange(low, high), np.random.default_rng(seed))
        counts += np.bincount(events.behavior, minlength=len(BEHAVIORS))
        pl.DataFrame(
            [
                user_ids.gather(events.user),
                item_ids.gather(events.item),
                behaviors.gather(events.behavior),
                pl.Series("timestamp", events.timestamp),
            ]
        ).write_parquet(folder / f"events-{number:05d}.parquet", statistics=True)
        if progress is not None:
            progress(high, config.users)

    pl.DataFrame(
        [item_ids, _categories(shop.category), pl.Series("price", shop.price)]
    ).write_parquet(folder / "items.parquet")
    _people(shop, user_ids).write_parquet(folder / "users.parquet")
    truth.save(folder / "truth")
    summary = {
        "format": FORMAT,
        "config": asdict(config),
        "start_ms": config.start_ms,
        "end_ms": config.end_ms,
        "counts": {
            "events": int(counts.sum()),
            **dict(zip(BEHAVIORS, counts.tolist(), strict=True)),
        },
        "versions": {"nmtr": nmtr.__version__, "numpy": np.__version__, "polars": pl.__version__},
    }
    (folder / "simulation.json").write_text(json.dumps(summary, indent=2) + "\n")


def draw_events(shop: Shop, shelves: Shelves, users: Ints, rng: np.random.Generator) -> Events:
    """Everything that users (B,) do, sorted by time."""
    config = shop.config
    share = rhythm(config).ravel()
    visitor = np.repeat(np.arange(len(users)), rng.poisson(shop.visits[users]))  # (sessions,)
    hour = rng.choice(len(share), size=len(visitor), p=share)
    begin = ((hour + rng.random(len(visitor))) * HOUR).astype(np.int64)
    length = rng.uniform(2 * MINUTE, 25 * MINUTE, len(visitor))

    session = np.repeat(
        np.arange(len(visitor)), rng.poisson(config.views_per_session, len(visitor))
    )
    item = shelves.draw(users, visitor[session], rng)  # (looks,)
    day = hour[session] // 24
    seen = rng.random(len(item)) < shop.trend_at(item, day)
    session, item, day = session[seen], item[seen], day[seen]  # (views,)
    user = users[visitor[session]]
    time = begin[session] + (rng.random(len(item)) * length[session]).astype(np.int64)

    wish, buy = shop.conversion(user, item)
    wished = np.flatnonzero(rng.random(len(item)) < wish)
    bought = rng.random(len(wished)) < buy[wished]
    carted = ~(bought & (rng.random(len(wished)) < config.one_click_share))
    cart_time = time[wished] + rng.integers(5_000, 90_000, len(wished))
    buy_time = cart_time + rng.integers(MINUTE, 15 * MINUTE, len(wished))
    carts, buys = wished[carted], wished[bought]

    more = np.repeat(buys, rng.poisson(shop.reorders[item[buys]]))
    later = day[more] + rng.choice(REORDER_DAYS, size=len(more))
    more, later = more[later < config.days], later[later < config.days]
    clock = rng.choice(24, size=len(more), p=HOURS / HOURS.sum()) + rng.random(len(more))

    parts = (
        (np.arange(len(item)), VIEW, time),
        (carts, CART, cart_time[carted]),
        (buys, BUY, buy_time[bought]),
        (more, BUY, later * DAY + (clock * HOUR).astype(np.int64)),
    )
    source = np.concatenate([rows for rows, _, _ in parts])
    behavior = np.repeat([kind for _, kind, _ in parts], [len(rows) for rows, _, _ in parts])
    timestamp = np.concatenate([times for _, _, times in parts])
    order = np.argsort(timestamp, kind="stable")
    source = source[order]
    return Events(user[source], item[source], behavior[order], timestamp[order] + config.start_ms)


def _categories(category: npt.NDArray[np.integer]) -> pl.Series:
    return pl.Series("category", [f"c{number:03d}" for number in range(category.max() + 1)]).gather(
        category
    )


def _people(shop: Shop, user_ids: pl.Series) -> pl.DataFrame:
    """What users told the shop: income (their true budget, in thirds) and favourite category."""
    low, high = np.quantile(shop.budget, [1 / 3, 2 / 3])
    bands = pl.Series("income", ["low", "middle", "high"])
    favorite = _categories(shop.category_mix.argmax(1)).alias("favorite_category")
    return pl.DataFrame(
        [user_ids, bands.gather(np.searchsorted([low, high], shop.budget)), favorite]
    )
