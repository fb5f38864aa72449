"""The true probability of everything in a simulated shop, without a look at its log."""

import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmtr.data.shop.world import (
    DAY,
    REORDER_DAYS,
    Array,
    Array32,
    Ints,
    Shop,
    SimulatorConfig,
    rhythm,
)
from nmtr.errors import DamagedError, UsageError

BEHAVIORS = ("view", "cart", "buy")
FORMAT = 1
CELLS_AT_ONCE = 4_000_000  # of users x items: bounds the working memory to about 100 MB


class Truth:
    """The true probabilities of a simulated shop; M users and N items by position.

    A user's sessions are a Poisson process, the views of an item within a session are Poisson, and
    carts, buys and reorders thin or branch from these, so a probability is 1 - exp(-A), with

        A = visits_u · Σ_d share_d · [f_d·(1 - exp(-x_d)) + (1 - f_d)·(1 - exp(-h_d·x_d))]
        x_d = views_per_session · P(look of u is at i) · trend_i(d) · P(behaviour | view)

    where share_d is day d's part of the sessions, f_d the part of that day's sessions that begin in
    the window, and, for buys only, h_d the probability that a buy of day d is reordered in the
    window. This is exact for windows of whole days (UTC); at other edges a session counts as a
    whole at its beginning, which misplaces what happens within an hour of the edge.

    It knows the user, not the user's log. Buys from views after any moment do not depend on the log
    before it; reorders do, so of what a user bought before, a model that has seen the log may know
    more.
    """

    behaviors = BEHAVIORS

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.config = shop.config
        self.start = shop.config.start_ms
        self.end = shop.config.end_ms
        self.item_ids = shop.item_ids  # (N,) int64
        self.user_ids = user_ids(shop.config.users)  # (M,) str

    @classmethod
    def load(cls, path: Path) -> "Truth":
        """Read the `truth` folder of a simulation; `DamagedError` if it is missing or altered."""
        try:
            meta = json.loads((path / "shop.json").read_text())
            if meta["format"] != FORMAT:
                raise DamagedError(
                    f"{path}: expected a simulated truth of format {FORMAT}, got {meta['format']}; "
                    "simulate again with this nmtr"
                )
            # np.load leaves a file that it cannot read open, unless it is handed an open one.
            with (
                (path / "shop.npz").open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                shop = Shop(SimulatorConfig(**meta["config"]), **meta["biases"], **dict(arrays))
        except (OSError, ValueError, KeyError, TypeError, UsageError, zipfile.BadZipFile) as error:
            raise DamagedError(
                f"{path}: expected the truth of a simulation (shop.json, shop.npz), got {error}; "
                "give the truth folder of `nmtr simulate`, or simulate again"
            ) from error
        return cls(shop)

    def save(self, path: Path) -> None:
        """Write the new folder `path` that `load` reads."""
        path.mkdir()
        arrays: dict[str, Any] = {f.name: getattr(self.shop, f.name) for f in fields(Shop)}
        meta = {
            "format": FORMAT,
            "config": asdict(arrays.pop("config")),
            "biases": {name: arrays.pop(name) for name in ("wish_bias", "buy_bias")},
        }
        np.savez(path / "shop.npz", **arrays)
        (path / "shop.json").write_text(json.dumps(meta, indent=2) + "\n")

    def probabilities(
        self, users: npt.ArrayLike, *, start: int | None = None, end: int | None = None
    ) -> Array32:
        """P(user performs behaviour r on item i at least once from `start` until before `end`).

        users: positions (B,); start, end: ms since 1970 UTC, by default the whole simulation.
        Returns (B, R, N) in the order of `behaviors` and `item_ids`. Raises `UsageError` for a
        window or a position outside the simulation.
        """
        start = self.start if start is None else start
        end = self.end if end is None else end
        if not self.start <= start < end <= self.end:
            raise UsageError(
                f"truth: expected {self.start} <= start < end <= {self.end} (ms), "
                f"got {start} and {end}"
            )
        chosen = np.asarray(users)
        M, N = self.config.users, self.config.items
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise UsageError(
                "truth: expected user positions as integers (B,), "
                f"got {chosen.dtype} of shape {chosen.shape}"
            )
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < M:
            raise UsageError(
                f"truth: expected user positions from 0 to {M - 1}, "
                f"got {chosen.min()} to {chosen.max()}"
            )
        largest = self.config.views_per_session * float(self.shop.shelf.max())
        once = self._moments(start, end, largest, reordered=False)
        often = self._moments(start, end, largest, reordered=True)
        out = np.empty((len(chosen), len(BEHAVIORS), N), dtype=np.float32)
        step = max(1, CELLS_AT_ONCE // N)
        for low in range(0, len(chosen), step):
            block = chosen[low : low + step].astype(np.int64)
            for r, (rate, moments) in enumerate(
                zip(self._rates(block), (once, once, often), strict=True)
            ):
                visits = self.shop.visits[block].astype(float)[:, None]
                out[low : low + step, r] = -np.expm1(-visits * _series(rate, moments))
        return out

    def _rates(self, users: Ints) -> tuple[Array, Array, Array]:
        """Expected views, carts and buys (B, N) per session at full fashion, reorders apart."""
        shop = self.shop
        looks = (shop.taste_mix[users] @ shop.shelf) * shop.category_mix[users][:, shop.category]
        views = looks.astype(float) * self.config.views_per_session
        wish, buy = shop.conversion(users[:, None], np.arange(self.config.items)[None])
        return views, views * wish * (1 - self.config.one_click_share * buy), views * wish * buy

    def _moments(self, start: int, end: int, largest: float, *, reordered: bool) -> Array:
        """Σ_d share_d·(f_d·g_d^n + (1 - f_d)·(h_d·g_d)^n) for n = 1..: (terms, N), g the trend.

        With these, the sum over days of 1 - exp(-x·g_d) is a power series in x: a pass over
        users x items per term, not an exponential per day.
        """
        terms = 2
        size = largest / 2
        while size > 1e-9:  # of the first term
            terms += 1
            size *= largest / terms
        share = rhythm(self.config)
        inside = np.diff(_elapsed(share, self.start, end)) - np.diff(
            _elapsed(share, self.start, start)
        )
        part = inside / share.sum(1)  # f
        items = np.arange(self.config.items)
        moments = np.zeros((terms, len(items)))
        for day in range(self.config.days):
            trend = self.shop.trend_at(items, day).astype(float)
            later = day + REORDER_DAYS
            met = part[later[later < self.config.days]].sum() / len(REORDER_DAYS)
            again = -np.expm1(-self.shop.reorders * met) if reordered else np.zeros(len(items))
            direct, branched = np.ones(len(items)), np.ones(len(items))
            for n in range(terms):
                direct *= trend
                branched *= trend * again
                moments[n] += share[day].sum() * (part[day] * direct + (1 - part[day]) * branched)
        return moments


def user_ids(users: int) -> npt.NDArray[np.str_]:
    """The ids (M,) of the users, in the order of positions: u000000, u000001, ..."""
    width = max(6, len(str(users - 1)))
    return np.array([f"u{position:0{width}d}" for position in range(users)])


def _elapsed(share: Array, first: int, moment: int) -> Array:
    """The part (days + 1,) of all sessions that begin before each midnight and before `moment`."""
    hours = np.concatenate([[0], np.cumsum(share)])
    midnights = np.arange(share.shape[0] + 1) * 24.0
    until = np.minimum(midnights, (moment - first) / (DAY / 24))
    return np.asarray(np.interp(until, np.arange(len(hours)), hours))


def _series(rate: Array, moments: Array) -> Array:
    """Σ_n (-1)^(n+1)·rate^n/n!·moments_n by Horner's rule; rate (B, N), moments (terms, N)."""
    total = np.broadcast_to(moments[-1], rate.shape)
    for n in range(len(moments) - 1, 0, -1):
        total = moments[n - 1] - rate / (n + 1) * total
    return np.asarray(rate * total)
