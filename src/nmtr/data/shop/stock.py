"""Stocks a simulated shop: draws its people and items, and solves for what its config promises."""

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from nmtr.data.shop.world import (
    REORDER_DAYS,
    STYLE_SIZE,
    Array,
    Array32,
    Shelves,
    Shop,
    SimulatorConfig,
    rhythm,
)

MOST_REORDERS = (
    5.0  # per buy: a short simulation may hold fewer reorders than repeat_share asks for
)
CALIBRATION_LOOKS = 50_000


def open_shop(config: SimulatorConfig) -> Shop:
    """The shop of a config, calibrated to its rates: the same for the same config."""
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))
    shop = _stock(config, rng)
    M, looks = config.users, CALIBRATION_LOOKS
    users = rng.choice(M, size=looks, p=shop.visits.astype(float) / shop.visits.sum(dtype=float))
    items = Shelves(shop).draw(users, np.arange(looks), rng)
    days = rng.choice(config.days, size=looks, p=rhythm(config).sum(1))

    wish, buy = shop.logits(users, items)
    views = shop.trend_at(items, days).astype(float)
    wish_bias = _bias(wish, views, config.cart_rate)
    wishes = views * expit(wish + wish_bias)
    buy_bias = _bias(buy, wishes, config.buy_rate)
    buys = wishes * expit(buy + buy_bias)

    in_time = (days[:, None] + REORDER_DAYS < config.days).mean(1)
    chances = buys * in_time * (shop.reorders[items] > 0)
    reorders = 0.0
    if chances.sum() > 0:
        odds = config.repeat_share / (1 - config.repeat_share)
        reorders = min(MOST_REORDERS, odds * buys.sum() / chances.sum())
    carts = wishes - config.one_click_share * buys
    per_session = (views + carts + buys + reorders * chances).mean() * config.views_per_session
    sessions = config.events / per_session
    return replace(
        shop,
        visits=(shop.visits * (sessions / shop.visits.sum(dtype=float))).astype(np.float32),
        reorders=shop.reorders * np.float32(reorders),
        wish_bias=wish_bias,
        buy_bias=buy_bias,
    )


def _bias(logits: Array32, weights: Array, rate: float) -> float:
    """The bias under which the weighted mean of σ(bias + logits) is `rate`."""
    total = weights.sum()
    return float(brentq(lambda bias: weights @ expit(logits + bias) / total - rate, -60, 60))


def _stock(config: SimulatorConfig, rng: np.random.Generator) -> Shop:
    """People and shelves as drawn, before calibration; `reorders` is 1 for consumables."""
    M, N, C, K = config.users, config.items, config.categories, config.tastes

    def normal(*shape: int) -> Array32:
        return rng.standard_normal(shape, dtype=np.float32)

    size = rng.permutation(np.arange(1, C + 1) ** -0.5)
    size /= size.sum()
    category = rng.permutation(np.concatenate([np.arange(C), rng.choice(C, N - C, p=size)]))
    centres = normal(STYLE_SIZE, K)
    style = centres[:, rng.integers(K, size=N)] + 0.6 * normal(STYLE_SIZE, N)
    popularity = rng.permutation(np.arange(1, N + 1) ** -config.popularity_skew)
    shelf = np.empty((K, N), dtype=np.float32)
    for k in range(K):
        near = np.exp(-np.square(style - centres[:, k : k + 1]).sum(0) / (2 * 0.8**2))
        weight = popularity * (near + 0.02)
        shelf[k] = weight / np.bincount(category, weights=weight, minlength=C)[category]

    quality = normal(N)
    price_level = 0.5 * (0.4 * quality + 0.9 * normal(N))
    usual = np.exp(rng.normal(3.2, 0.9, size=C))
    consumables = max(1, round(config.consumable_share * C)) if config.repeat_share > 0 else 0
    consumable = np.isin(category, rng.permutation(C)[:consumables])

    taste_mix = rng.dirichlet(np.full(K, 1.5 / K), size=M).astype(np.float32)
    return Shop(
        config=config,
        item_ids=10**8 + np.cumsum(rng.integers(1, 1000, size=N)),
        visits=np.exp(config.activity_spread * normal(M)),
        category_mix=rng.dirichlet(3 * size, size=M).astype(np.float32),
        taste_mix=taste_mix,
        ideal=centres[:, taste_mix.argmax(1)] + 0.6 * normal(STYLE_SIZE, M),
        budget=0.2 + 0.5 * normal(M),
        resolve=0.7 * normal(M),
        category=category.astype(np.int32),
        shelf=shelf,
        style=style,
        quality=quality,
        price_level=price_level.astype(np.float32),
        price=np.round(usual[category] * np.exp(price_level), 2),
        peak=rng.uniform(-0.25, 1.25, N).astype(np.float32) * config.days,
        trend_width=rng.uniform(0.08, 0.4, N).astype(np.float32) * config.days,
        reorders=consumable.astype(np.float32),
    )
