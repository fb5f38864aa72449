"""Nights that must not be learned from are known by what is wrong with them; others pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.errors import UsageError
from nmtr.serving.refresh.checks import CHECKS, DAY, MINUTE, check, days_of, suspects
from nmtr.serving.refresh.gathering import Gathered, _repeated
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.wish import Wish

OPTIONS = Options(behaviors=("view", "buy"))
WHOLE = 20  # days of a log


def day(
    at: int, *, views: int = 200, buys: int = 40, users: int = 50, prefix: str = ""
) -> pl.DataFrame:
    """A day's events, spread evenly, of users and items that every day has."""
    n = views + buys
    order = np.arange(n)
    return pl.DataFrame({
        "user_id": [f"u{each % users}" for each in order],
        "item_id": [f"{prefix}i{each % 30}" for each in order],
        "behavior": ["view"] * views + ["buy"] * buys,
        "undo": [False] * n,
        "timestamp": at * DAY + (order * (DAY - 1) // max(n - 1, 1)),
    })  # fmt: skip


def usual(*, but_the_last: bool = False) -> list[pl.DataFrame]:
    return [day(at) for at in range(WHOLE - but_the_last)]


def looked_at(
    frames: Sequence[pl.DataFrame], *, ahead: int = 0, checked_to: int | None = None,
    older: int = 0, late: float = 0.1, options: Options = OPTIONS,
) -> list[str]:  # fmt: skip
    """The checks that a log does not pass, `late` days after its last event.

    older: of the events up to `checked_to`, how many were not there when those were looked at.
    """
    raw = pl.concat(frames).sort("timestamp", maintain_order=True)
    gathered = Gathered(raw.unique(maintain_order=True), _repeated(raw), ahead, None)
    now = int(gathered.frame["timestamp"].max() + late * DAY)  # type: ignore[operator]
    seen = 0 if checked_to is None else int((gathered.frame["timestamp"] <= checked_to).sum())
    before = None if checked_to is None else (checked_to, seen - older)
    findings, _ = check(gathered, options, before=before, now=now)
    assert all(str(each).startswith(each.check) for each in findings)
    return [each.check for each in findings]


def test_a_night_like_the_others_passes() -> None:
    assert looked_at(usual()) == []


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"buys": 0}, ["missing"]),
        ({"views": 20, "buys": 4}, ["volume", "volume"]),
        ({"views": 900}, ["volume"]),
        ({"prefix": "new-"}, ["churn"]),
        ({"views": 120, "buys": 25}, []),  # a quiet Sunday
    ],
)
def test_what_is_wrong_with_the_last_day_is_found(
    last: dict[str, int], expected: list[str]
) -> None:
    assert looked_at([*usual(but_the_last=True), day(WHOLE - 1, **last)]) == expected  # type: ignore[arg-type]


def test_a_bot_is_known_by_its_day_or_by_its_minute() -> None:
    end = WHOLE * DAY - 1
    slow = pl.DataFrame({"timestamp": end - np.arange(1001) * 60_000})
    quick = pl.DataFrame({"timestamp": end - MINUTE // 2 + np.arange(61)})
    for extra, most in ((slow, 1001), (quick, 61)):
        bot = extra.select(
            pl.lit("bot").alias("user_id"),
            pl.format("i{}", pl.int_range(pl.len()) % 30).alias("item_id"),
            pl.lit("view").alias("behavior"), pl.lit(False).alias("undo"), "timestamp",
        )  # fmt: skip
        frames = [*usual(), bot]
        assert "bots" in looked_at(frames)
        found = suspects(days_of(pl.concat(frames), None), OPTIONS)
        assert found.rows() == [("bot", most)]
    assert "bots" not in looked_at([*usual(), bot.head(60)])


def test_what_is_sent_twice_what_is_ahead_and_what_is_old_is_found() -> None:
    assert looked_at([*usual(), day(WHOLE - 1)]) == ["duplicates"]
    assert looked_at(usual(), ahead=3) == ["ahead"]
    assert looked_at(usual(), late=2.1) == ["stale"]


def test_events_of_days_that_were_looked_at_before_are_counted() -> None:
    yesterday = (WHOLE - 1) * DAY - 1
    assert looked_at(usual(), checked_to=yesterday, older=200) == ["late"]
    assert looked_at(usual(), checked_to=yesterday, older=99) == [], "some phones were offline"
    assert looked_at(usual(), checked_to=yesterday - DAY * 9, older=200) == [], "beside ten days'"
    assert looked_at(usual(), checked_to=yesterday, older=-50) == [], "some were erased"


def test_every_day_since_the_last_look_is_looked_at_not_the_newest_alone() -> None:
    poisoned = [day(at, buys=0 if at == WHOLE - 3 else 40) for at in range(WHOLE)]
    assert looked_at(poisoned) == [], "the last day alone is in order"
    checked_to = (WHOLE - 4) * DAY + DAY // 2
    assert looked_at(poisoned, checked_to=checked_to) == ["missing"]


def test_a_week_has_a_rhythm_that_is_no_shift() -> None:
    week = [200, 200, 190, 210, 200, 90, 80]
    frames = [day(at, views=week[at % 7]) for at in range(21)]
    for end in range(16, 22):
        assert looked_at(frames[:end]) == []


def test_a_shop_that_is_closed_at_weekends_is_believed_and_a_monday_like_that_is_not() -> None:
    shut: dict[str, Any] = {"views": 3, "buys": 0}

    def until(last: int, *, lost: int = -1) -> list[pl.DataFrame]:
        return [day(at, **(shut if at % 7 > 4 or at == lost else {})) for at in range(last + 1)]

    for last in range(16, 22):
        assert looked_at(until(last)) == [], f"day {last}"
    assert looked_at(until(21, lost=21)) == ["volume", "missing"]
    assert looked_at(until(12)) == ["missing"], "one weekend says nothing yet"


def test_a_short_log_is_compared_with_nothing_and_says_so() -> None:
    frames = [day(0), day(1), day(2, buys=0)]
    assert looked_at(frames) == []
    raw = pl.concat(frames)
    _, notes = check(Gathered(raw, None, 0, None), OPTIONS, before=None, now=3 * DAY)
    assert len(notes) == 1


@settings(max_examples=15, deadline=None)
@given(st.integers(min_value=150, max_value=260), st.integers(min_value=30, max_value=52))
def test_chance_is_no_finding(views: int, buys: int) -> None:
    assert looked_at([*usual(but_the_last=True), day(WHOLE - 1, views=views, buys=buys)]) == []


def test_only_checks_that_there_are_can_be_passed_over() -> None:
    assert Wish(accept=frozenset(CHECKS)).accept
    with pytest.raises(UsageError, match="churn"):
        Wish(accept=frozenset(["everything"]))


def test_options_that_make_no_sense_are_refused() -> None:
    wrong: list[Callable[[], Options]] = [
        lambda: Options(),
        lambda: Options(behaviors=("buy",), margin=-0.1),
        lambda: Options(behaviors=("buy",), window=0),
        lambda: Options(behaviors=("buy",), shift=0.5),
    ]
    for each in wrong:
        with pytest.raises(ValueError, match=r"expected|name"):
            each()
