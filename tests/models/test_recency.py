"""nmtr-funnel where it looks at times: what came last counts, and only what came before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories, Records
from nmtr.data.split import split
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.models.heldout import hold_out_last
from nmtr.models.observed import HOUR, ages
from nmtr.training.run import Settings, execute
from nmtr.training.trainer import Training

M, N, DAY = 300, 40, 24 * HOUR
NAMES = ("cart", "buy")
HOW = Training(calibrate=False, threads=1)


def shop(*, recent: bool, seed: int = 0) -> Records:
    """Users put items into the cart on days 0..9 and buy what came last, or any of it."""
    rng = np.random.default_rng(seed)
    carts = np.stack([rng.permutation(N)[:10] for _ in range(M)])
    day = np.broadcast_to(np.arange(10), carts.shape)
    users = np.repeat(np.arange(M), 10).reshape(M, 10)
    bought = np.full(M, 9) if recent else rng.integers(10, size=M)
    cart = timed(users.ravel(), carts.ravel(), day.ravel() * DAY)
    buy = timed(np.arange(M), carts[np.arange(M), bought], np.full(M, 9 * DAY + HOUR))
    return Records(NAMES, (cart, buy))


def timed(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> CSR:
    pairs = CSR.from_pairs(users, items, M, N)
    at = np.empty(pairs.nnz, np.int64)
    at[pairs.places(users, items)] = times
    return replace(pairs, at=at)


def taught(records: Records, **options: object) -> Model:
    torch.manual_seed(0)
    given = {"members": ("ease",), "sweeps": 60, "hide": 0.0, "counts": False} | options
    model = make("nmtr-funnel", given, Shape(M, N, NAMES))
    model.learn(records)
    return model.eval()


def asked() -> Histories:
    """New carts of the same users, whose buys are to come."""
    records = shop(recent=True, seed=1)
    empty = replace(records.target, indptr=np.zeros(M + 1, np.int64))
    nothing = np.zeros(0, np.int64)
    nobody = replace(empty, indices=nothing.astype(np.int32), at=nothing)
    return Histories(np.arange(M), (records.sets[0], nobody))


def first(model: Model, histories: Histories) -> np.ndarray:
    with torch.inference_mode():
        return model.score(model.encode(histories), histories).argmax(1).numpy()


def last_carted(histories: Histories) -> np.ndarray:
    cart = histories.items[0]
    assert cart.at is not None
    order = np.lexsort((cart.at, cart.row_of_each()))
    return cart.indices[order].reshape(M, 10)[:, -1]


@pytest.mark.parametrize("recent", [True, False])
def test_the_last_is_first_where_buyers_take_the_last(recent: bool) -> None:
    model, histories = taught(shop(recent=recent), recency=True), asked()
    share = (first(model, histories) == last_carted(histories)).mean()
    assert share > 0.95 if recent else share < 0.5
    plain = taught(shop(recent=recent))
    assert (first(plain, histories) == last_carted(histories)).mean() < 0.5


def test_ages_count_from_the_users_last_record() -> None:
    cart = CSR(np.array([0, 3, 3]), np.array([2, 5, 7], np.int32), N, np.array([0, 48, 12]) * HOUR)
    buy = CSR(np.array([0, 1, 1]), np.array([7], np.int32), N, np.array([50]) * HOUR)
    (found,) = ages(Histories(np.array([0, 1]), (cart, buy)))
    expected = np.log1p([[50, 2], [2, 0], [38, 1]]) / [10, 5]
    assert np.allclose(found, expected, atol=1e-6)


def test_of_pairs_at_one_moment_none_is_later_whatever_their_items() -> None:
    """A log by days has many; their order would be that of item indices."""
    at = np.array([5, 9, 5, 5, 7, 7]) * HOUR
    cart = CSR(np.array([0, 4, 6]), np.array([2, 5, 7, 8, 1, 3], np.int32), N, at)
    nothing = CSR(np.zeros(3, np.int64), np.zeros(0, np.int32), N)
    (found,) = ages(Histories(np.array([0, 1]), (cart, nothing)))
    assert np.allclose(np.expm1(found[:, 1].numpy() * 5), [1, 0, 1, 1, 0, 0], atol=1e-5)


def test_what_is_held_out_is_each_users_last_and_its_past_is_what_came_before() -> None:
    target = timed(np.array([0, 0, 1, 2]), np.array([3, 4, 5, 6]), np.array([5, 9, 7, 2]) * HOUR)
    cart = timed(np.array([0, 0, 0, 1]), np.array([4, 8, 9, 5]), np.array([8, 9, 3, 6]) * HOUR)
    held = hold_out_last(Records(NAMES, (cart, target)), 0.0, np.random.default_rng(0))
    assert held.users.tolist() == [0, 1]  # user 2 did nothing before
    assert held.items.tolist() == [4, 5]
    assert held.moments is not None
    assert (held.moments == np.array([9, 7]) * HOUR).all()
    past = held.histories()
    assert past.items[0].row(0).tolist() == [4, 9]  # 8 came with the buy, not before it
    assert past.items[0].row(1).tolist() == [5]
    assert past.items[1].row(0).tolist() == [3]


def test_records_without_times_are_refused() -> None:
    records = shop(recent=True)
    bare = Records(NAMES, tuple(replace(each, at=None) for each in records.sets))
    with pytest.raises(UsageError, match="recency: the records have no times"):
        taught(bare, recency=True)
    model = taught(records, recency=True)
    with pytest.raises(UsageError, match="recency"):
        model.encode(bare.histories(np.arange(3)))


def test_it_trains_by_time(timed: Interactions, tmp_path: Path) -> None:
    """Through a split whose records carry times."""
    options = {"members": ("ease",), "hide": 0.0, "counts": False, "recency": True}
    run = execute(timed, Settings("nmtr-funnel", "time", options, HOW), tmp_path / "run")
    assert run.path
    report = json.loads((run.path / "report-validation.json").read_text())["models"]
    found, popular = (
        report[each]["all"]["ndcg@10"]["mean"] for each in ("nmtr-funnel", "popularity")
    )
    assert found > 3 * popular


def test_records_by_time_carry_their_last_event(timed: Interactions) -> None:
    parts = split(timed, "time")
    cut, times = timed.holdout["cut"], np.asarray(timed.time)
    for r, pairs in enumerate(parts.train.sets):
        of = (timed.code == r) & (times < cut)
        last: dict[tuple[int, int], int] = {}
        for user, item, time in zip(timed.user[of], timed.item[of], times[of], strict=True):
            last[int(user), int(item)] = int(time)
        assert pairs.at is not None
        rows, items = pairs.row_of_each().tolist(), pairs.indices.tolist()
        told = dict(zip(zip(rows, items, strict=True), pairs.at.tolist(), strict=True))
        assert told == last
    pairs = parts.train.sets[0]
    taken, stacked = pairs.take(np.array([5, -1, 2])), [pairs.between(5, 6), pairs.between(2, 3)]
    assert taken.at is not None
    assert np.array_equal(taken.at, CSR.stacked(stacked).at)  # type: ignore[arg-type]
