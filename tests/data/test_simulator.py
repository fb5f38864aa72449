"""The simulated shop: its log follows its truth, and its truth follows its equations."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from nmtr.data import simulator
from nmtr.data.shop import world
from nmtr.data.shop.stock import open_shop
from nmtr.data.shop.world import DAY, HOUR, Shelves
from nmtr.data.simulator import SimulatorConfig, Truth, draw_events, simulate
from nmtr.errors import DamagedError, UsageError

SMALL = SimulatorConfig(users=300, items=120, events=20_000, days=30, seed=3)

Matrix = npt.NDArray[np.bool_]


class Log:
    """A finished simulation: its folder, events by position, and truth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = Truth.load(folder / "truth")
        self.frame = pl.scan_parquet(folder / "events-*.parquet").collect()
        self.user = np.searchsorted(self.truth.user_ids, self.frame["user_id"].to_numpy())
        self.item = np.searchsorted(self.truth.item_ids, self.frame["item_id"].to_numpy())
        self.behavior = self.frame["behavior"].to_numpy()
        self.time = self.frame["timestamp"].to_numpy()

    def pairs(self, behavior: str, start: int = 0, end: int = 2**62) -> Matrix:
        """Which (user, item) happened in the window, (M, N)."""
        found = (self.behavior == behavior) & (start <= self.time) & (self.time < end)
        seen = np.zeros((self.truth.config.users, self.truth.config.items), dtype=bool)
        seen[self.user[found], self.item[found]] = True
        return seen


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(simulate(SimulatorConfig(), tmp_path_factory.mktemp("shop") / "default"))


def in_standard_errors(happened: Matrix, probability: npt.NDArray[Any]) -> float:
    """How far the count is from expected; users are the units, as a user's pairs share sessions."""
    residual = (happened - probability.astype(float)).sum(1)
    return float(abs(residual.sum()) / np.sqrt(np.square(residual).sum()))


def test_same_config_gives_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    first, second = (simulate(SMALL, tmp_path / name) for name in ("a", "b"))
    for name in ("events-00000.parquet", "items.parquet", "users.parquet"):
        assert pl.read_parquet(first / name).equals(pl.read_parquet(second / name))
    other = simulate(replace(SMALL, seed=4), tmp_path / "c")
    events = [pl.read_parquet(path / "events-00000.parquet") for path in (first, other)]
    assert not events[0].equals(events[1])


def test_log_is_streamed_in_files_of_whole_users_sorted_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "EVENTS_PER_FILE", 6000)
    done: list[tuple[int, int]] = []
    folder = simulate(SMALL, tmp_path / "log", progress=lambda n, total: done.append((n, total)))
    files = [pl.read_parquet(path) for path in sorted(folder.glob("events-*.parquet"))]
    assert done == [(90, 300), (180, 300), (270, 300), (300, 300)]
    assert len(files) == 4
    assert all(frame["timestamp"].is_sorted() for frame in files)
    users = pl.concat([frame.select(pl.col("user_id").unique()) for frame in files])
    assert users["user_id"].is_unique().all()


def test_schema_ids_and_times(log: Log) -> None:
    assert log.frame.schema == {
        "user_id": pl.String,
        "item_id": pl.Int64,
        "behavior": pl.String,
        "timestamp": pl.Int64,
    }
    assert set(log.behavior) == set(log.truth.behaviors)
    assert (log.truth.start, log.truth.end) == (1767225600000, 1767225600000 + 60 * DAY)
    assert log.truth.start <= log.time.min()
    assert log.time.max() < log.truth.end
    items = pl.read_parquet(log.folder / "items.parquet")
    users = pl.read_parquet(log.folder / "users.parquet")
    assert items["item_id"].to_list() == log.truth.item_ids.tolist()
    assert users["user_id"].to_list() == log.truth.user_ids.tolist()
    assert users["user_id"][123] == "u000123"
    assert set(log.frame["item_id"]) <= set(items["item_id"])
    assert items["price"].min() > 0  # type: ignore[operator]


def test_summary_counts_the_log_which_is_near_the_size_asked_for(log: Log) -> None:
    summary = json.loads((log.folder / "simulation.json").read_text())
    counts = dict(zip(*np.unique(log.behavior, return_counts=True), strict=True))
    assert summary["counts"] == {"events": log.frame.height, **counts}
    assert SimulatorConfig(**summary["config"]) == log.truth.config
    assert log.frame.height == pytest.approx(200_000, rel=0.02)


def test_each_behavior_is_rarer_than_the_one_below_at_the_rates_asked_for(log: Log) -> None:
    views, carts, buys = (int((log.behavior == b).sum()) for b in log.truth.behaviors)
    # .26 of views are wishes, .4 of these end in a buy, .1 of which skip the cart; .1 are reorders
    assert carts / views == pytest.approx(0.26 * (1 - 0.1 * 0.4), rel=0.03)
    assert buys / views == pytest.approx(0.26 * 0.4 / (1 - 0.1), rel=0.03)
    assert np.median(log.pairs("buy").sum(1)) >= 3


def test_item_ids_tell_nothing_about_popularity(log: Log) -> None:
    popularity = np.bincount(log.item, minlength=800)
    assert abs(np.corrcoef(np.arange(800), popularity)[0, 1]) < 0.12  # 3.3 standard errors


@pytest.mark.parametrize("days", [(0, 60), (45, 60)])
def test_frequencies_match_the_truth_overall_and_in_every_bin(
    log: Log, days: tuple[int, int]
) -> None:
    start, end = (log.truth.start + day * DAY for day in days)
    truth = log.truth.probabilities(np.arange(2000), start=start, end=end)
    assert truth.shape == (2000, 3, 800)
    assert truth.dtype == np.float32
    for r, behavior in enumerate(log.truth.behaviors):
        happened, probability = log.pairs(behavior, start, end), truth[:, r]
        if days == (0, 60):
            assert happened.mean() == pytest.approx(probability.mean(dtype=float), rel=0.02)
        edges = np.quantile(probability, [0.5, 0.8, 0.9, 0.97, 0.99, 0.998])
        bins = np.searchsorted(edges, probability)
        for number in range(len(edges) + 1):
            inside = bins == number
            assert in_standard_errors(happened & inside, probability * inside) < 4.5


def test_truth_is_the_frequency_over_many_runs_of_one_shop() -> None:
    config = SimulatorConfig(
        users=6, items=7, categories=2, tastes=2, events=600, days=12, seed=5,
        repeat_share=0.4, consumable_share=0.5, one_click_share=0.3,
    )  # fmt: skip
    shop = open_shop(config)
    truth, shelves, runs = Truth(shop), Shelves(shop), 1500
    start, end = truth.start + 6 * DAY, truth.start + 11 * DAY
    count = np.zeros((6, 3, 7))
    for run in range(runs):
        events = draw_events(shop, shelves, np.arange(6), np.random.default_rng(run))
        happened = np.zeros_like(count)
        found = (start <= events.timestamp) & (events.timestamp < end)
        happened[events.user[found], events.behavior[found], events.item[found]] = 1
        count += happened
    probability = truth.probabilities(np.arange(6), start=start, end=end).astype(float)
    error = np.sqrt(probability * (1 - probability) / runs) + 1e-3
    assert (np.abs(count / runs - probability) / error).max() < 4.5
    assert probability.max() > 0.9


def test_views_of_disjoint_windows_are_independent(log: Log) -> None:
    middle = log.truth.start + 17 * DAY + 5 * HOUR + 1234
    users = np.array([4, 1999, 4])
    first, second, whole = (
        log.truth.probabilities(users, start=start, end=end)[:, :2]  # reorders tie buys together
        for start, end in (
            (log.truth.start, middle),
            (middle, log.truth.end),
            (log.truth.start, log.truth.end),
        )
    )
    np.testing.assert_allclose(1 - (1 - first) * (1 - second), whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(whole[0], whole[2])


def test_series_equals_the_sum_over_days_of_its_formula(log: Log) -> None:
    shop, user, item = log.truth.shop, 11, int(log.truth.probabilities([11])[0, 0].argmax())
    looks = 6.0 * float(
        shop.category_mix[user, shop.category[item]] * (shop.taste_mix[user] @ shop.shelf[:, item])
    )
    share = world.rhythm(shop.config).sum(1)
    trend = shop.trend_at(np.full(60, item), np.arange(60))
    expected = 1 - np.exp(-shop.visits[user] * (share * (1 - np.exp(-looks * trend))).sum())
    assert looks > 0.1
    assert log.truth.probabilities([user])[0, 0, item] == pytest.approx(expected, rel=1e-5)


def test_quality_moves_conversion_but_not_views(log: Log) -> None:
    views = np.bincount(log.item[log.behavior == "view"], minlength=800)
    carts = np.bincount(log.item[log.behavior == "cart"], minlength=800)
    quality, often = log.truth.shop.quality, views > 30
    assert abs(np.corrcoef(quality, np.log(views + 1))[0, 1]) < 0.12
    assert np.corrcoef(quality[often], carts[often] / views[often])[0, 1] > 0.5


def test_prices_above_the_budget_convert_less(log: Log) -> None:
    views = log.behavior == "view"
    user, item = log.user[views], log.item[views]
    dear = log.truth.shop.price_level[item] > log.truth.shop.budget[user] + 0.3
    bought = log.pairs("buy")[user, item]
    assert bought[dear].mean() < 0.5 * bought[~dear].mean()


def test_sessions_come_in_bursts_and_the_funnel_in_order(log: Log) -> None:
    frame = log.frame.sort("user_id", "timestamp")
    views = frame.filter(pl.col("behavior") == "view")
    gap = views.select(pl.col("timestamp").diff().over("user_id"))["timestamp"].drop_nulls()
    assert (gap < 30 * 60_000).mean() > 0.6  # type: ignore[operator]
    first = frame.group_by("user_id", "item_id").agg(
        pl.col("timestamp").filter(pl.col("behavior") == name).min().alias(name)
        for name in log.truth.behaviors
    )
    assert first["view"].null_count() == 0
    assert first.filter(pl.col("cart") <= pl.col("view")).is_empty()
    assert first.filter(pl.col("buy") <= pl.col("view")).is_empty()


def test_items_sell_around_their_peak(log: Log) -> None:
    shop, day = log.truth.shop, (log.time - log.truth.start) // DAY
    sharp = (shop.trend_width < 12) & (shop.peak > 10) & (shop.peak < 50)
    inside = sharp[log.item] & (log.behavior == "view")
    away = np.abs(day - shop.peak[log.item])[inside]
    uniform = np.abs(day[inside][:, None] - np.linspace(10, 50, 41)).mean()
    assert away.mean() < 0.8 * uniform


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_one_clicks_alone_break_the_nesting_of_buys_in_carts(tmp_path: Path, share: float) -> None:
    config = replace(SMALL, one_click_share=share, repeat_share=0.0, events=40_000, items=400)
    log = Log(simulate(config, tmp_path / "log"))
    buys, carts = log.pairs("buy"), log.pairs("cart")
    bare = (buys & ~carts).sum() / buys.sum()
    assert not (buys & ~log.pairs("view")).any()
    assert 0.6 * share <= bare <= share  # some were put into the cart on another day


def test_reorders_come_without_a_view_days_later_at_their_share(tmp_path: Path) -> None:
    config = replace(SMALL, repeat_share=0.3, events=60_000, items=400)
    log = Log(simulate(config, tmp_path / "log"))
    reordered = log.truth.shop.reorders > 0
    views = log.frame.filter(pl.col("behavior") == "view").sort("timestamp")
    buys = log.frame.filter(pl.col("behavior") == "buy").sort("timestamp")
    matched = buys.join_asof(
        views.with_columns(viewed="timestamp"),
        on="timestamp",
        by=["user_id", "item_id"],
        tolerance=HOUR,
        check_sortedness=False,
    )
    bare = matched.filter(pl.col("viewed").is_null())
    assert bare.height / buys.height == pytest.approx(0.3, abs=0.03)
    assert reordered[np.searchsorted(log.truth.item_ids, bare["item_id"].to_numpy())].all()


def test_truth_ranks_better_than_neighbours_and_these_than_popularity(log: Log) -> None:
    cut = log.truth.start + 48 * DAY
    past = np.tensordot([1.0, 2.0, 4.0], [log.pairs(b, end=cut) for b in log.truth.behaviors], 1)
    old = log.pairs("buy", end=cut)
    asked: Matrix = log.pairs("buy", start=cut) & ~old
    columns = past / (np.sqrt(np.square(past).sum(0)) + 5)
    similar = columns.T @ columns
    np.fill_diagonal(similar, 0)

    def hit_rate(scores: npt.NDArray[Any]) -> float:
        top = np.argsort(np.where(old, -np.inf, scores), axis=1)[:, -20:]
        hits = np.take_along_axis(asked, top, axis=1).any(1)
        return float(np.mean(hits, where=asked.any(1)))

    popularity = hit_rate(np.broadcast_to(old.sum(0), old.shape))
    neighbours = hit_rate(past @ similar)
    best = hit_rate(log.truth.probabilities(np.arange(2000), start=cut, end=log.truth.end)[:, 2])
    assert best > neighbours + 0.15
    assert neighbours > popularity + 0.07


@pytest.mark.parametrize(
    "config",
    [
        SimulatorConfig(users=1, items=1, events=1, days=1, categories=1, tastes=1),
        SimulatorConfig(users=7, items=5, events=100, days=4, categories=5, tastes=20),
        SimulatorConfig(users=50, items=20, events=100, days=10, repeat_share=0.5, trend=1.0),
        SimulatorConfig(users=3, items=9, events=500, categories=9, one_click_share=1.0),
    ],
)
def test_tiny_shops_work(tmp_path: Path, config: SimulatorConfig) -> None:
    log = Log(simulate(config, tmp_path / "log"))
    assert log.frame.height < 10 + 3 * config.events
    truth = log.truth.probabilities(np.arange(config.users))
    assert np.isfinite(truth).all()
    assert ((truth >= 0) & (truth <= 1)).all()
    assert (truth[:, 2] <= truth[:, 0]).all()  # no buy without a view before it


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("users", 0),
        ("items", -1),
        ("events", 0),
        ("days", 0),
        ("days", 2.5),
        ("categories", 801),
        ("tastes", 0),
        ("seed", -1),
        ("start", "soon"),
        ("cart_rate", 1.5),
        ("buy_rate", float("nan")),
        ("one_click_share", -0.1),
        ("repeat_share", 0.9),
        ("trend", 2.0),
        ("views_per_session", 0.0),
    ],
)
def test_bad_config_names_the_field_and_what_came(field: str, value: object) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(UsageError, match=rf"{field} must be .*{value}"):
        SimulatorConfig(**settings)


def test_existing_output_is_refused_untouched_and_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="old exists and holds something"):
        simulate(SMALL, tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "notes.txt"]
    (tmp_path / "empty").mkdir()
    assert (simulate(SMALL, tmp_path / "empty") / "simulation.json").exists()


def test_a_stopped_simulation_leaves_nothing_behind(tmp_path: Path) -> None:
    seen: list[bool] = []

    def stop(done: int, total: int) -> None:
        seen.append((tmp_path / "log").exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(SMALL, tmp_path / "log", progress=stop)
    assert seen == [False]
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_truth_and_bad_questions_are_refused(log: Log, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"shop\.json"):
        Truth.load(tmp_path)
    Truth(log.truth.shop).save(tmp_path / "truth")
    archive = tmp_path / "truth" / "shop.npz"
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(DamagedError, match="simulate again"):
        Truth.load(tmp_path / "truth")
    with pytest.raises(UsageError, match="from 0 to 1999, got 3 to 2000"):
        log.truth.probabilities([3, 2000])
    with pytest.raises(UsageError, match=r"float64 of shape \(1,\)"):
        log.truth.probabilities([0.5])
    with pytest.raises(UsageError, match="start < end"):
        log.truth.probabilities([0], start=log.truth.end)
    assert log.truth.probabilities(np.array([], dtype=np.int64)).shape == (0, 3, 800)
