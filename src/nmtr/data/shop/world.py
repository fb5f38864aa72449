"""A made-up shop whose every probability is known: its people, its shelves, how views become buys.

The world, for user u, item i, category c, taste k and day d (simulator.py draws from it and
truth.py computes with it):

    visits    sessions of u ~ Poisson(visits_u), spread over hours by one daily and weekly rhythm;
              visits_u is log-normal
    browsing  a session makes Poisson(views_per_session) looks; each picks a category from the
              user's mixture θ_u, a taste from φ_u, then within the category an item by
              shelf_k(i) ∝ popularity_i · (exp(-|style_i - centre_k|² / (2·0.8²)) + 0.02)
    fashion   a look at day d becomes a view with probability
              trend_i(d) = 1 - τ + τ · exp(-(d - peak_i)² / (2·width_i²))
    wish      P = σ(b_w + quality_i + 2.5·match_ui - 3·over_ui)
    buy       P = σ(b_b + 0.8·quality_i + match_ui - 4·over_ui + resolve_u), given the wish
              match_ui = exp(-|ideal_u - style_i|² / 2),
              over_ui = max(0, price_i - budget_u), both logs
    one click a wish that ends in a buy skips the cart with probability s = one_click_share, so
              P(cart | view) = P(wish)·(1 - s·P(buy)) and P(buy | view) = P(wish)·P(buy)
    reorders  a buy in a category of consumables brings Poisson(ρ) more, each 3 to 21 days later,
              without a view; those after the last day are lost

Quality moves conversion and never views; a user browses by their mixture and buys near one ideal
point within a budget: neither is an inner product or NMTR's cascade. b_w, b_b, ρ and the scale of
the visits are solved (stock.py) so that the rates the config names come out.
"""

import datetime
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nmtr.errors import UsageError

DAY = 86_400_000  # milliseconds, as are all times
HOUR = 3_600_000
REORDER_DAYS = np.arange(3, 22)
STYLE_SIZE = 4
# Nobody arrives after 23:00, and a session lasts less than an hour: no session crosses midnight, so
# probabilities of whole days are exact.
HOURS = np.array(
    [3, 2, 1, 1, 1, 2, 4, 6, 8, 9, 10, 10, 11, 10, 9, 9, 10, 11, 13, 15, 16, 14, 9, 0.0]
)
WEEKEND = 1.3

Array = npt.NDArray[np.float64]
Array32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SimulatorConfig:
    """What shop to simulate; raises `UsageError` naming the field that is out of range.

    `events` is an expectation: the log comes within about 2 % of it from 100 000 events on, and
    within 10 % at 5 000.
    """

    users: int = 2000
    items: int = 800
    events: int = 200_000
    days: int = 60
    categories: int = 12
    tastes: int = 8
    seed: int = 0
    start: str = "2026-01-01"  # first day, UTC
    views_per_session: float = 6.0  # looks per session, before fashion turns some away
    cart_rate: float = 0.26  # share of views that wake the wish to have it
    buy_rate: float = 0.40  # share of wishes that end in a buy
    one_click_share: float = 0.10  # share of buys after a view that skip the cart
    repeat_share: float = 0.10  # share of buys that are reorders; needs more than 3 days
    consumable_share: float = 0.25  # share of categories that are reordered, at least one
    trend: float = 0.7  # τ: 0 is a shop without fashion
    popularity_skew: float = 0.8  # exponent of the items' Zipf law
    activity_spread: float = 0.8  # standard deviation of the log of a user's visits

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"simulator: {name} must be from {low} to {high}, got {value!r}")
            if isinstance(low, int) and value != int(value):
                raise UsageError(f"simulator: {name} must be a whole number, got {value!r}")
        if self.categories > self.items:
            raise UsageError(
                f"simulator: categories must be at most the number of items, {self.items}, so that "
                f"each holds one; got {self.categories}: lower categories or raise items"
            )
        try:
            datetime.date.fromisoformat(self.start)
        except ValueError:
            raise UsageError(
                f"simulator: start must be a date such as 2026-01-01, got {self.start!r}"
            ) from None

    @property
    def start_ms(self) -> int:
        """The first moment, in ms since 1970 UTC."""
        return (datetime.date.fromisoformat(self.start) - datetime.date(1970, 1, 1)).days * DAY

    @property
    def end_ms(self) -> int:
        """The moment after the last, in ms since 1970 UTC."""
        return self.start_ms + self.days * DAY


_RANGES: dict[str, tuple[float, float]] = {
    "users": (1, 10**9),
    "items": (1, 10**8),
    "events": (1, 10**12),
    "days": (1, 3660),
    "categories": (1, 1000),
    "tastes": (1, 100),
    "seed": (0, 2**63 - 1),
    "views_per_session": (0.1, 20.0),
    "cart_rate": (0.001, 0.9),
    "buy_rate": (0.001, 0.9),
    "one_click_share": (0.0, 1.0),
    "repeat_share": (0.0, 0.5),
    "consumable_share": (0.0, 1.0),
    "trend": (0.0, 1.0),
    "popularity_skew": (0.0, 3.0),
    "activity_spread": (0.0, 3.0),
}


@dataclass(frozen=True)
class Shop:
    """The true world: M users, N items, C categories, K tastes, S = STYLE_SIZE axes of style."""

    config: SimulatorConfig
    item_ids: Ints  # (N,) ascending, drawn at random: their order tells nothing
    visits: Array32  # (M,) expected sessions in the whole simulation
    category_mix: Array32  # (M, C) θ
    taste_mix: Array32  # (M, K) φ
    ideal: Array32  # (S, M)
    budget: Array32  # (M,) log price above the category's usual one
    resolve: Array32  # (M,)
    category: npt.NDArray[np.int32]  # (N,)
    shelf: Array32  # (K, N) sums to 1 over the items of a category
    style: Array32  # (S, N)
    quality: Array32  # (N,)
    price_level: Array32  # (N,) log price above the category's usual one
    price: Array  # (N,) in money
    peak: Array32  # (N,) day
    trend_width: Array32  # (N,) days
    reorders: Array32  # (N,) ρ, or 0
    wish_bias: float = 0.0
    buy_bias: float = 0.0

    def trend_at(self, items: npt.NDArray[np.integer], days: Ints | int) -> Array32:
        """P(a look becomes a view), for item positions and days since the start that broadcast."""
        tau = np.float32(self.config.trend)
        away = (days - self.peak[items]) / self.trend_width[items]
        return np.asarray(1 - tau + tau * np.exp(-0.5 * away * away), dtype=np.float32)

    def logits(self, users: Ints, items: Ints) -> tuple[Array32, Array32]:
        """Logits of wish and of buy given wish; user and item positions that broadcast together."""
        distance = np.float32(0)
        for ideal, style in zip(self.ideal, self.style, strict=True):
            distance = distance + np.square(ideal[users] - style[items])
        match = np.exp(-0.5 * distance)
        over = np.maximum(0, self.price_level[items] - self.budget[users])
        quality = self.quality[items]
        wish = self.wish_bias + quality + 2.5 * match - 3 * over
        buy = self.buy_bias + 0.8 * quality + match - 4 * over + self.resolve[users]
        return wish, buy

    def conversion(self, users: Ints, items: Ints) -> tuple[Array32, Array32]:
        """P(wish | view) and P(buy | wish), shaped as `logits`."""
        wish, buy = self.logits(users, items)
        return expit(wish), expit(buy)


class Shelves:
    """Draws the items that users look at, from tables made once per shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.order = np.argsort(shop.category, kind="stable")
        counts = np.bincount(shop.category, minlength=shop.config.categories)
        self.first = np.concatenate([[0], np.cumsum(counts)])  # (C + 1,) where a category begins
        self.table = np.empty(
            shop.shelf.shape
        )  # (K, N) row (k, c) runs from its number to the next
        for k, c in np.ndindex(shop.config.tastes, shop.config.categories):
            part = slice(self.first[c], self.first[c + 1])
            running = np.cumsum(shop.shelf[k, self.order[part]], dtype=np.float64)
            self.table[k, part] = running / running[-1] + (k * shop.config.categories + c)

    def draw(self, users: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
        """Items (V,) that `users[rows]` look at; users (B,) positions, rows (V,) into `users`."""
        category = _pick(self.shop.category_mix[users], rows, rng)
        taste = _pick(self.shop.taste_mix[users], rows, rng)
        place = taste * self.shop.config.categories + category + rng.random(len(rows))
        found = np.searchsorted(self.table.ravel(), place, side="right") - taste * len(self.order)
        return np.asarray(self.order[np.minimum(found, self.first[category + 1] - 1)])


def _pick(mixtures: Array32, rows: Ints, rng: np.random.Generator) -> Ints:
    """A column (V,) drawn from each named row of mixtures (B, C), by one search over all rows."""
    width = mixtures.shape[1]
    running = np.cumsum(mixtures, axis=1, dtype=np.float64)
    running = running / running[:, -1:] + np.arange(len(mixtures))[:, None]
    found = np.searchsorted(running.ravel(), rows + rng.random(len(rows)), side="right")
    return np.asarray(np.minimum(found - rows * width, width - 1))


def rhythm(config: SimulatorConfig) -> Array:
    """The share (days, 24) of all sessions that begin in each hour; sums to 1."""
    first = datetime.date.fromisoformat(config.start).weekday()
    weekday = (first + np.arange(config.days)) % 7
    share = np.where(weekday >= 5, WEEKEND, 1.0)[:, None] * HOURS
    return np.asarray(share / share.sum())
