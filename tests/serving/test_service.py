"""Answers: events count at once, rules hold whatever is asked, and batch and service agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmtr.errors import UsageError
from nmtr.evaluation.ranking import top
from nmtr.serving.recommender import Recommender
from nmtr.serving.requests import Answer, Event, Request
from nmtr.serving.rules import DAY, Condition, Rules
from nmtr.serving.service import Service
from nmtr.training.run import Run

NOW = 4_000_000_000_000


def ids(answer: Answer) -> list[Any]:
    return [each.item for each in answer.items]


def met(service: Service, user: object, behavior: str) -> set[Any]:
    return set(service.user(user)[behavior])


def some_user(service: Service, least: int = 2) -> str:
    """A trained user with a few items in the funnel and some bought."""
    for row in range(service.data.n_users):
        user = service.ledger.at(row)
        if len(user.funnel()) >= least and len(user.items[-1]) and service.states.trained(user):
            return str(service.data.users.ids[row])
    raise AssertionError("no such user")


def test_batch_and_service_give_the_same_answers(service: Service) -> None:
    users = [*service.data.users.ids.head(60).to_list(), "nobody"]
    frame = Recommender.of(service).recommend(users, k=9)
    for user in users:
        answer, rows = (
            service.recommend(Request(user, k=9)),
            frame.filter(pl.col("user_id") == user),
        )
        assert ids(answer) == rows["item_id"].to_list()
        assert rows["basis"].unique().to_list() == [answer.basis]
        found = [each.score for each in answer.items]
        assert found == pytest.approx(rows["score"].to_list(), rel=1e-5, abs=1e-6)
        if answer.basis != "popular":
            chances = [each.behaviors["buy"] for each in answer.items]
            assert chances == pytest.approx(rows["p_buy"].to_list(), rel=1e-4)


def test_who_is_trained_gets_what_the_evaluation_ranks(service: Service, finished: Run) -> None:
    users = np.flatnonzero(finished.trained_users())[:40]
    records = finished.data.records()
    items, _, _ = top(
        finished.model, records.histories(users), records.target.take(users), k=6,
        tie_break=finished.data.item_hash,
    )  # fmt: skip
    requests = [Request(finished.data.users.ids[int(each)], k=6) for each in users]
    for row, answer in enumerate(service.recommend_many(requests)):
        assert answer.basis == "model"
        assert ids(answer) == finished.data.items.take(items[row]).to_list()


def test_several_at_once_are_answered_as_one_by_one(service: Service) -> None:
    user = some_user(service)
    item = service.data.items.ids[3]
    asked = [
        Request(user, k=5),
        Request("nobody", k=3),
        Request(None, (Event(item, "view"), Event(item, "cart")), k=7),
        Request(user, k=4, rules=Rules(popularity_penalty=0.5)),
        Request(user, k=4, rules=Rules(diversity=0.5)),
        Request(user, k=2, slice="in-funnel"),
        Request(user, (Event(item, "buy"),), k=20),
    ]
    for request, together in zip(asked, service.recommend_many(asked), strict=True):
        alone = service.recommend(request)
        assert ids(alone) == ids(together)
        assert alone.basis == together.basis
        scores = ([each.score for each in answer.items] for answer in (alone, together))
        assert next(scores) == pytest.approx(next(scores), rel=1e-5, abs=1e-6)
    assert service.recommend_many([]) == []


def test_what_was_just_bought_does_not_come_back_and_moves_the_rest(service: Service) -> None:
    user = some_user(service)
    before = service.recommend(Request(user, k=10))
    bought = before.items[0].item
    after = service.recommend(Request(user, (Event(bought, "buy", 1),), k=10))
    assert bought not in ids(after)
    assert (before.basis, after.basis) == ("model", "fold-in")
    assert [each.score for each in after.items] != [each.score for each in before.items[1:]]


def test_an_event_that_is_known_already_changes_nothing(service: Service) -> None:
    user = some_user(service)
    item = next(iter(met(service, user, "view")))
    again = service.recommend(Request(user, (Event(item, "view", 1),)))
    assert again == service.recommend(Request(user))


def test_an_undone_event_takes_its_record_back(service: Service) -> None:
    user = some_user(service)
    item = next(iter(met(service, user, "buy")))
    undo = Event(item, "buy", 1, undo=True)
    assert item in ids(service.recommend(Request(user, (undo,), k=1000)))
    there_and_back = (Event("nothing", "view"), Event(item, "cart"), Event(item, "buy"))
    assert item not in ids(service.recommend(Request(user, (undo, *there_and_back), k=1000)))


def test_a_visitor_is_met_by_events_alone_and_items_that_are_not_known_are_counted(
    service: Service,
) -> None:
    seen = [service.data.items.ids[each] for each in (5, 9)]
    events = (*(Event(each, "view") for each in seen), Event("no such item", "view"))
    answer = service.recommend(Request(None, events, k=5))
    assert (answer.basis, answer.unknown) == ("fold-in", 1)
    assert answer.calibrated
    assert all(0 < p < 1 for each in answer.items for p in each.behaviors.values())
    nothing = service.recommend(Request(None, (Event("no such item", "view"),), k=5))
    assert (nothing.basis, nothing.unknown) == ("popular", 1)
    assert ids(nothing) == ids(service.recommend(Request("nobody", k=5)))
    assert all(each.behaviors == {} for each in nothing.items)


def test_a_visitor_with_a_user_s_events_is_recommended_much_as_that_user(service: Service) -> None:
    shared = []
    for row in range(30):
        user = service.ledger.at(row)
        if not service.states.trained(user):
            continue
        events = [
            Event(item, name)
            for name, items in service.user(service.data.users.ids[row]).items()
            for item in items
        ]
        mine = ids(service.recommend(Request(service.data.users.ids[row], k=20)))
        theirs = ids(service.recommend(Request(None, tuple(events), k=20)))
        shared.append(len(set(mine) & set(theirs)) / 20)
    popular = ids(service.recommend(Request("nobody", k=20)))
    assert np.mean(shared) > 0.6
    assert np.mean(shared) > len(set(mine) & set(popular)) / 20


def test_slices_are_what_the_user_has_met_or_not(service: Service) -> None:
    user = some_user(service)
    seen = set().union(*(met(service, user, each) for each in service.behaviors))
    funnel = seen - met(service, user, "buy")
    assert set(ids(service.recommend(Request(user, k=1000, slice="in-funnel")))) == funnel
    new = ids(service.recommend(Request(user, k=1000, slice="new")))
    assert set(new) == set(service.data.items.ids.to_list()) - seen
    carted = new[0]
    later = (Event(carted, "cart"),)
    assert carted in ids(service.recommend(Request(user, later, k=1000, slice="in-funnel")))


def test_an_empty_slice_falls_back_on_popular_items_that_keep_the_other_rules(
    service: Service,
) -> None:
    request = Request(None, (Event(service.data.items.ids[4], "buy"),), slice="in-funnel", k=5)
    answer = service.recommend(request)
    assert answer.basis == "popular"
    assert len(answer.items) == 5
    assert service.data.items.ids[4] not in ids(answer)
    strict = Request(request.user, request.events, 5, "in-funnel", Rules(fallback=False))
    assert service.recommend(strict).items == ()


def test_stock_lets_only_what_is_posted_through_until_it_is_taken_back(service: Service) -> None:
    user = some_user(service)
    every = service.recommend(Request(user, k=1000))
    posted = ids(every)[3:6]
    assert service.stock([*posted, "no such item"]) == 3
    assert ids(service.recommend(Request(user, k=1000))) == posted
    loose = Rules(in_stock=False)
    assert ids(service.recommend(Request(user, k=1000, rules=loose))) == ids(every)
    assert service.stock([]) == 0
    assert service.recommend(Request(user)).items == ()
    assert service.stock(None) == service.data.n_items
    assert service.recommend(Request(user, k=1000)) == every


def test_a_bought_item_comes_back_when_its_window_has_passed(service: Service) -> None:
    user = some_user(service)
    current = service.ledger.current(user)
    item, last = service.ids(current.items[-1])[0], service.ledger.last_bought(current, NOW)[0]
    kind = "c" + str(service.known(item) % 4)
    rules = Rules(repurchase_days=((kind, 30.0),))

    def back(now: int, *events: Event, **how: Any) -> bool:
        asked = Request(user, events, 1000, rules=how.get("rules", rules), now=now)
        return item in ids(service.recommend(asked))

    assert not back(int(last) + 29 * DAY)
    assert back(int(last) + 30 * DAY)
    assert not back(int(last) + 30 * DAY, rules=Rules(repurchase_days=(("other", 1.0),)))
    assert back(int(last) + 30 * DAY, rules=Rules(repurchase_days=(("*", 30.0),)))
    again = Event(item, "buy", int(last) + 25 * DAY)
    assert not back(int(last) + 30 * DAY, again), "the last purchase counts"
    assert back(int(last) + 55 * DAY, again)
    assert not back(int(last) + 900 * DAY, Event(item, "buy")), "one without a time is made now"


def test_the_penalty_is_taken_off_the_score_and_not_off_the_probability(service: Service) -> None:
    user = some_user(service)
    plain = {each.item: each for each in service.recommend(Request(user, k=1000)).items}
    rules = Rules(popularity_penalty=0.7)
    answer = service.recommend(Request(user, k=1000, rules=rules))
    counts = service.data.records().target.column_counts()
    for each in answer.items:
        off = 0.7 * np.log1p(counts[service.known(each.item)])
        assert each.score == pytest.approx(plain[each.item].score - off, abs=1e-4)
        assert each.behaviors == pytest.approx(plain[each.item].behaviors, rel=1e-3)
    assert ids(answer) != list(plain)


def test_diversity_spreads_categories_and_likeness(service: Service, catalogue: Any) -> None:
    user = some_user(service)
    plain = service.recommend(Request(user, k=8))

    def kinds(answer: Answer) -> list[str]:
        return [catalogue["category"][service.known(each)] for each in ids(answer)]

    spread = service.recommend(Request(user, k=8, rules=Rules(diversity=0.95)))
    assert [kinds(spread).count(each) for each in ("c0", "c1", "c2", "c3")] == [2, 2, 2, 2] or len(
        set(kinds(spread)[:4])
    ) == 4
    assert ids(spread)[0] == ids(plain)[0]
    alike = service.recommend(
        Request(user, k=8, rules=Rules(diversity=0.9, diversify_by="likeness"))
    )
    assert len(set(ids(alike))) == 8

    def nearness(answer: Answer) -> float:
        chosen = torch.tensor([service.known(each) for each in ids(answer)])
        found = service.model.alike(chosen)
        assert found is not None
        return float(found[:, chosen].mean())

    assert nearness(alike) < nearness(plain)


RULES = st.builds(
    Rules,
    exclude=st.sampled_from(["bought", "seen", "nothing", None]),
    exclude_items=st.lists(st.integers(0, 149), max_size=5).map(tuple),
    allow=st.lists(
        st.sampled_from(
            [Condition("category", ("c0", "c1", "c2")), Condition("price", low=10.0),
             Condition("new", (True,))]
        ),
        max_size=2,
    ).map(tuple),
    deny=st.lists(
        st.sampled_from([Condition("brand", (1,)), Condition("price", low=100.0)]), max_size=2
    ).map(tuple),
    diversity=st.sampled_from([0.0, 0.0, 0.4]),
    popularity_penalty=st.sampled_from([0.0, 0.3]),
    fallback=st.booleans(),
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rules=RULES, k=st.integers(1, 30), slice=st.sampled_from(["all", "new", "in-funnel"]),
    row=st.integers(-1, 40), events=st.lists(
        st.tuples(st.integers(0, 160), st.sampled_from(["view", "cart", "buy"])), max_size=4
    ),
)  # fmt: skip
def test_no_rule_is_ever_broken(
    service: Service, catalogue: pl.DataFrame, rules: Rules, k: int, slice: Any, row: int,
    events: list[tuple[int, str]],
) -> None:  # fmt: skip
    """exclude_items are item ids here: the shop's are its integers."""
    user = service.data.users.ids[row] if row >= 0 else None
    known = service.data.items.ids.to_list()
    live = tuple(Event(known[at] if at < len(known) else "none", name) for at, name in events)
    answer = service.recommend(Request(user, live, k, slice, rules, now=NOW))
    got, history = ids(answer), service.user(user, live)
    bought, seen = set(history["buy"]), set().union(*history.values())
    assert len(got) == len(set(got)) <= k
    assert [each.rank for each in answer.items] == list(range(1, len(got) + 1))
    exclude = rules.exclude or "bought"
    gone = {"bought": bought, "seen": seen, "nothing": set()}[exclude] | set(rules.exclude_items)
    assert not gone & set(got)
    for item in got:
        at = service.known(item)
        price, brand = catalogue["price"][at], catalogue["brand"][at]
        for each in rules.allow:
            assert {"category": at % 4 != 3, "price": price >= 10, "new": at % 2 == 0}[each.column]
        for each in rules.deny:
            assert {"brand": brand != 1, "price": price < 100}[each.column]
    if slice != "all" and answer.basis != "popular":
        assert all((item in seen) == (slice == "in-funnel") for item in got)
        assert slice == "new" or not bought & set(got)
    if not rules.diversity:
        scores = [each.score for each in answer.items]
        assert scores == sorted(scores, reverse=True)
    if len(got) < min(k, 10) and slice == "all":
        more = service.recommend(Request(user, live, 1000, slice, rules, now=NOW))
        assert len(more.items) == len(got), "fewer than k only where there are no more"


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"k": 0}, "k: expected 1 to 10,000, got 0"),
        ({"slice": "old"}, "slice: expected one of all, new, in-funnel, got 'old'"),
        ({"events": (Event(1, "wish"),)}, "expected a behaviour of view, cart, buy, got 'wish'"),
        ({"rules": Rules(allow=(Condition("colour", ("x",)),))}, "no column 'colour'"),
        ({"rules": Rules(diversity=0.5, diversify_by="colour")}, "no column 'colour'"),
    ],
)
def test_a_wrong_request_is_refused(service: Service, given_: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        service.recommend(Request("u000001", **given_))


def test_several_threads_get_what_one_does(service: Service) -> None:
    users = service.data.users.ids.head(30).to_list()
    item = service.data.items.ids[7]
    asked = [Request(user, (Event(item, "cart"),) if n % 2 else (), k=5)
             for n, user in enumerate(users)] * 3  # fmt: skip
    expected = [service.recommend(each) for each in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(service.recommend, asked)) == expected


def test_folded_states_are_kept_and_the_oldest_go(service: Service) -> None:
    cache = service.states._folded
    cache.size = 2
    folds = []
    fold = service.states.fold
    service.states.fold = lambda *given_: folds.append(1) or fold(*given_)  # type: ignore
    visits = [Request(None, (Event(service.data.items.ids[n], "view"),), k=1) for n in range(3)]
    for n, made in ((0, 1), (0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
        service.recommend(visits[n])
        assert len(folds) == made
