"""Splits by time against the same rules written over plain Python lists of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nmtr.data.events import ReadOptions, from_frame
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR, Histories, Records
from nmtr.data.split import Fold, Split, default_protocol, split
from nmtr.data.timesplit import Part
from nmtr.errors import DataError, UsageError

ORDER = ["view", "buy"]
UNDO = {"view": "unview", "buy": "return"}
quick = settings(max_examples=100, deadline=None)


class Event(NamedTuple):
    user: str
    item: str
    behavior: str
    time: int


Pair = tuple[str, str]
# Before 1970 too, few distinct times so that many events are simultaneous.
event = st.builds(
    Event,
    st.sampled_from("ABC"),
    st.sampled_from("stuv"),
    st.sampled_from([*ORDER, "buy", "unview", "return"]),
    st.integers(-3, 12).map(lambda n: n * 1000),
)
# Y can be held out twice: no log is without an answer.
ALWAYS = [Event("Y", "s", "view", 0)] + [
    Event("Y", item, "buy", time * 1000)
    for item, time in zip("stuvwx", (-3, 1, 4, 7, 9, 11), strict=True)
]
logs = st.lists(event, max_size=40).map(lambda some: [*some, *ALWAYS])
FOLDS = st.sampled_from(["test", "validation"])


def data_of(events: list[Event], holdout: str, *, repurchase: bool = False) -> Interactions:
    frame = pl.DataFrame(
        events, schema=["user_id", "item_id", "behavior", "timestamp"], orient="row"
    )
    log = from_frame(frame, ReadOptions(undo=UNDO, time_unit="ms"))
    times = sorted(each.time for each in events if each.behavior == "buy")
    assume(times[len(times) // 2] > times[0])  # else there is no cut inside
    return prepare(log, behaviors=ORDER, holdout=holdout, repurchase=repurchase)


def standing(events: Iterable[Event], behavior: str) -> set[Pair]:
    """The pairs under a behaviour when the events, in order of time, have happened."""
    found: set[Pair] = set()
    for each in sorted(events, key=lambda e: e.time):
        if each.behavior == behavior:
            found.add((each.user, each.item))
        elif each.behavior == UNDO[behavior]:
            found.discard((each.user, each.item))
    return found


def first_purchases(events: Iterable[Event]) -> dict[Pair, int]:
    found: dict[Pair, int] = {}
    for each in events:
        if each.behavior == "buy":
            pair = (each.user, each.item)
            found[pair] = min(found.get(pair, each.time), each.time)
    return found


def pairs_of(data: Interactions, found: CSR, users: list[str]) -> set[Pair]:
    items = data.items.ids.to_list()
    return {(users[u], items[i]) for u, i in zip(found.row_of_each(), found.indices, strict=True)}


def agree(
    data: Interactions,
    fold: Fold,
    *,
    trained: list[Event],
    truth: dict[Pair, int],
    events: list[Event],
) -> None:
    """The split is of these training events, and each user stands before their first truth."""
    if not truth:
        with pytest.raises(DataError, match="no user has"):
            split(data, fold=fold)
        return
    found = split(data, fold=fold)
    everyone = data.users.ids.to_list()
    for r, name in enumerate(ORDER):
        assert pairs_of(data, found.train.sets[r], everyone) == standing(trained, name)
    evaluation = found.evaluation
    names = data.users.take(evaluation.users).to_list()
    assert pairs_of(data, evaluation.truth, names) == set(truth)
    moments = {name: min(t for (u, _), t in truth.items() if u == name) for name in names}
    before = [each for each in events if each.time < moments.get(each.user, -(10**9))]
    for r, name in enumerate(ORDER):
        mine = pairs_of(data, evaluation.histories.items[r], names)
        assert mine == standing(before, name)
    masked = set() if data.repurchase else standing(before, "buy")
    assert pairs_of(data, evaluation.mask, names) == masked
    rows = zip(evaluation.truth.row_of_each(), evaluation.truth.indices, strict=True)
    items = data.items.ids.to_list()
    told = [(names[u], items[i]) in standing(before, "view") for u, i in rows]
    assert evaluation.in_funnel.tolist() == told
    known = {user for name in ORDER for user, _ in standing(trained, name)}
    expected = [everyone.index(name) if name in known else -1 for name in names]
    assert evaluation.histories.users.tolist() == expected


@quick
@given(logs, FOLDS, st.sampled_from(["time:0.5", "time:0.8"]), st.booleans())
def test_time_trains_before_the_cut_and_asks_for_what_came_after(
    events: list[Event], fold: Fold, holdout: str, repurchase: bool
) -> None:
    data = data_of(events, holdout, repurchase=repurchase)
    cut, end = data.holdout["cut"], 10**9
    if fold == "validation":  # a tenth of the purchases before test's cut come after its own
        times = sorted(each.time for each in events if each.behavior == "buy" and each.time < cut)
        cut, end = times[min(len(times) * 9 // 10, len(times) - 1)], cut
    kept = standing((each for each in events if each.time < end), "buy")
    owned = standing((each for each in events if each.time < cut), "buy")
    bought = first_purchases(each for each in events if cut <= each.time < end)
    wanted = kept if repurchase else kept - owned
    truth = {pair: t for pair, t in bought.items() if pair in wanted}
    trained = [each for each in events if each.time < cut]
    agree(data, fold, trained=trained, truth=truth, events=events)


def last_of(events: list[Event]) -> tuple[list[Event], dict[Pair, int]]:
    """Events before each user's last first purchase (of what is not returned), and what it was."""
    kept_pairs = standing(events, "buy")
    first = {pair: t for pair, t in first_purchases(events).items() if pair in kept_pairs}
    truth: dict[Pair, int] = {}
    for user in {user for user, _ in first}:
        times = [t for (u, _), t in first.items() if u == user]
        if min(times) < max(times):
            truth |= {p: t for p, t in first.items() if p[0] == user and t == max(times)}
    moments = {user: t for (user, _), t in truth.items()}
    kept = [each for each in events if each.time < moments.get(each.user, 10**9)]
    return kept, truth


@quick
@given(logs, FOLDS)
def test_last_asks_for_each_user_s_last_first_purchase(events: list[Event], fold: Fold) -> None:
    data = data_of(events, "last")
    trained, truth = last_of(events)
    if fold == "validation":
        tests = truth
        trained, truth = last_of(trained)
        assert not set(truth) & set(tests)
    agree(data, fold, trained=trained, truth=truth, events=events)


@quick
@given(logs, st.sampled_from(["time:0.7", "last"]))
def test_validation_is_over_before_test_begins(events: list[Event], holdout: str) -> None:
    data = data_of(events, holdout)
    try:
        test, validation = split(data), split(data, fold="validation")
    except DataError:
        assume(False)
        raise
    shared = set(test.evaluation.users) & set(validation.evaluation.users)
    for user in shared:
        later = test.evaluation.users.tolist().index(user)
        before = validation.evaluation.users.tolist().index(user)
        truth = set(validation.evaluation.truth.row(before).tolist())
        assert not truth & set(test.evaluation.truth.row(later).tolist())


SHOP = [
    Event("A", "s", "view", 1000),
    Event("A", "s", "buy", 2000),
    Event("B", "t", "buy", 3000),
    Event("A", "t", "view", 4000),
    Event("C", "u", "view", 4500),
    Event("A", "t", "buy", 6000),
    Event("A", "s", "buy", 6000),
    Event("A", "u", "buy", 7000),
    Event("C", "s", "buy", 8000),
]


def by_hand(*, repurchase: bool) -> tuple[Interactions, Split]:
    frame = pl.DataFrame(SHOP, schema=["user_id", "item_id", "behavior", "timestamp"], orient="row")
    log = from_frame(frame, ReadOptions(time_unit="ms"))
    data = prepare(log, behaviors=ORDER, holdout="time:5", repurchase=repurchase)
    return data, split(data)


@pytest.mark.parametrize(("repurchase", "a_buys"), [(False, "tu"), (True, "stu")])
def test_truth_may_hold_several_items_and_repeats_where_they_are_allowed(
    repurchase: bool, a_buys: str
) -> None:
    data, found = by_hand(repurchase=repurchase)
    names = data.users.take(found.evaluation.users).to_list()
    truth = pairs_of(data, found.evaluation.truth, names)
    assert truth == {("C", "s")} | {("A", item) for item in a_buys}
    assert found.train.target.nnz == 2
    assert default_protocol(data) == "time"


@pytest.mark.parametrize("holdout", ["time:5", "last"])
def test_seen_masked_asks_only_for_what_is_new(holdout: str) -> None:
    frame = pl.DataFrame(SHOP, schema=["user_id", "item_id", "behavior", "timestamp"], orient="row")
    log = from_frame(frame, ReadOptions(time_unit="ms"))
    data = prepare(log, behaviors=ORDER, holdout=holdout)
    found = split(data, mask="seen")
    names = data.users.take(found.evaluation.users).to_list()
    expected = {("A", "u"), ("C", "s")} if holdout == "time:5" else {("A", "u")}
    assert pairs_of(data, found.evaluation.truth, names) == expected
    assert not found.evaluation.in_funnel.any()


@pytest.mark.parametrize("protocol", ["as-published", "discovery", "leak-free", "last"])
def test_a_hold_out_by_time_serves_no_other_protocol(protocol: str) -> None:
    data, _ = by_hand(repurchase=False)
    with pytest.raises(UsageError, match=f"protocol {protocol} needs data prepared with"):
        split(data, protocol)


def of_buys(events: list[Event], holdout: str, order: list[str] = ORDER) -> Interactions:
    """Repeats are allowed, and a return takes a buy back."""
    frame = pl.DataFrame(
        events, schema=["user_id", "item_id", "behavior", "timestamp"], orient="row"
    )
    log = from_frame(frame, ReadOptions(undo={"buy": "return"}, time_unit="ms"))
    return prepare(log, behaviors=order, holdout=holdout, repurchase=True)


def test_a_tenth_is_validation_and_what_happens_at_its_end_is_not_in_it() -> None:
    """Twenty buys before the cut: 18 train. At the cut one is repeated and one is returned."""
    events = [Event("A", f"i{n}", "buy", 1000 * n) for n in range(20)]
    events += [Event("A", "i0", "view", 0), Event("A", "i0", "buy", 20_000)]
    events += [Event("A", "i18", "return", 20_000), Event("B", "i0", "buy", 25_000)]
    data = of_buys(events, "time:20")
    found = split(data, fold="validation")
    assert found.train.target.nnz == 18
    names = data.users.take(found.evaluation.users).to_list()
    assert pairs_of(data, found.evaluation.truth, names) == {("A", "i18"), ("A", "i19")}


def test_of_three_behaviours_any_below_the_target_is_the_funnel() -> None:
    events = [
        Event("B", "s", "view", 0), Event("B", "s", "buy", 1000), Event("A", "t", "cart", 2000),
        Event("A", "t", "buy", 6000),
    ]  # fmt: skip
    frame = pl.DataFrame(
        events, schema=["user_id", "item_id", "behavior", "timestamp"], orient="row"
    )
    log = from_frame(frame, ReadOptions(time_unit="ms"))
    data = prepare(log, behaviors=["view", "cart", "buy"], holdout="time:5")
    found = split(data).evaluation
    assert pairs_of(data, found.truth, data.users.take(found.users).to_list()) == {("A", "t")}
    assert found.in_funnel.tolist() == [True]


def test_last_tells_pairs_apart_where_users_are_more_than_items() -> None:
    events = [Event("A", "s", "view", 0)]
    for n, user in enumerate("ABCDEF"):
        events += [Event(user, "s", "buy", 1000 * n), Event(user, "t", "buy", 1000 * n + 500)]
    data = of_buys(events, "last")
    found = split(data).evaluation
    names = data.users.take(found.users).to_list()
    assert pairs_of(data, found.truth, names) == {(user, "t") for user in "ABCDEF"}


def rows(*each: list[int]) -> CSR:
    """A set of four items, row by row."""
    indptr = np.cumsum([0, *map(len, each)])
    return CSR(indptr, np.array([item for row in each for item in row], np.int32), 4)


def part(train: CSR, users: list[int], views: CSR, truth: CSR, in_funnel: list[bool]) -> Part:
    records, met = Records(("view", "buy"), (train, train)), np.array(users, np.int64)
    histories = Histories(met, (views, rows(*[[]] * len(users))))
    return Part(records, met, histories, truth, np.array(in_funnel, np.bool_))


def test_users_of_stacked_parts_are_numbered_on_from_part_to_part() -> None:
    """Two users, of whom the second has a truth; one who has none; three, the first and last."""
    found = Part.stacked(
        [
            part(rows([0], [1, 2]), [1], rows([3]), rows([3]), [True]),
            part(rows([3]), [], rows(), rows(), []),
            part(
                rows([], [1], [2]),
                [0, 2],
                rows([], [0, 1]),
                rows([1, 2], [0]),
                [False] * 2 + [True],
            ),
        ]
    )

    def listed(each: CSR) -> list[list[int]]:
        return [each.row(at).tolist() for at in range(each.n_rows)]

    assert found.users.tolist() == found.histories.users.tolist() == [1, 3, 5]
    assert (
        listed(found.train.sets[0])
        == listed(found.train.target)
        == [[0], [1, 2], [3], [], [1], [2]]
    )
    assert [listed(each) for each in found.histories.items] == [[[3], [], [0, 1]], [[], [], []]]
    assert listed(found.truth) == [[3], [1, 2], [0]]
    assert found.in_funnel.tolist() == [True, False, False, True]
