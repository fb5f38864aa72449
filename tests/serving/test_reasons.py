"""Reasons: taking them out lowers the score, by another way too; alike is what the model has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nmtr.data.interactions import Interactions
from nmtr.errors import UnknownError
from nmtr.serving import reasons as file
from nmtr.serving.requests import Event, Request
from nmtr.serving.rules import Condition, Rules
from nmtr.serving.service import Service
from nmtr.training.run import Run, Settings, execute

MODELS = ("nmtr-gmf", "nmtr-neumf", "neumf", "cmf", "bpr", "ease", "itemknn", "ials", "lightgcn")


@pytest.fixture(scope="module")
def services(
    timed: Interactions, small: Callable[..., Settings], finished: Run
) -> Callable[[str], Service]:
    made: dict[str, Service] = {"nmtr-gmf": Service.of(finished)}

    def make(name: str) -> Service:
        if name not in made:
            made[name] = Service.of(execute(timed, small(name, epochs=3, calibrate=False)))
        return made[name]

    return make


def users_of(service: Service, n: int = 6) -> list[str]:
    rows = [
        row for row in range(service.data.n_users)
        if service.states.trained(service.ledger.at(row))
        and len(service.ledger.at(row).items[-1]) > 1
    ]  # fmt: skip
    return [str(service.data.users.ids[row]) for row in rows[:n]]


def undone(reason: file.Reason) -> list[Event]:
    return [Event(reason.item, name, undo=True) for name in reason.behaviors]


def score(service: Service, user: object, item: Any, events: list[Event]) -> float:
    """An item's score in a recommendation to the user after some events."""
    rules = Rules(exclude="nothing")
    answer = service.recommend(Request(user, tuple(events), 1000, rules=rules))
    return next(each.score for each in answer.items if each.item == item)


@pytest.mark.parametrize("name", MODELS)
def test_taking_a_reason_out_of_the_history_lowers_the_score_by_what_it_says(
    services: Callable[[str], Service], name: str
) -> None:
    service, told = services(name), 0
    for user in users_of(service):
        best = service.recommend(Request(user, k=1)).items[0]
        found = service.explain(Request(user), best.item)
        assert found.score == pytest.approx(best.score, rel=1e-4, abs=1e-5)
        assert found.behaviors == pytest.approx(best.behaviors, rel=1e-3, abs=1e-5)
        assert [each.drop for each in found.reasons] == sorted(
            (each.drop for each in found.reasons), reverse=True
        )
        told += len(found.reasons)
        for reason in found.reasons[:3]:
            assert reason.drop > 0
            history = service.user(user)
            assert set(reason.behaviors) == {r for r in history if reason.item in history[r]}
            without = score(service, user, best.item, undone(reason))
            assert without == pytest.approx(best.score - reason.drop, abs=2e-4)
            assert without < best.score
        if len(found.reasons) > 1:
            all_out = [event for reason in found.reasons[:3] for event in undone(reason)]
            assert score(service, user, best.item, all_out) < best.score
    assert told > 5


def test_a_visitor_s_answer_is_explained_by_the_visit(services: Callable[[str], Service]) -> None:
    service = services("ease")
    seen = service.data.items.ids.head(4).to_list()
    visit = Request(None, tuple(Event(each, "buy") for each in seen))
    best = service.recommend(visit).items[0]
    found = service.explain(visit, best.item)
    assert found.basis == "fold-in"
    # EASE's score is the sum of the weights between the visit's items and this one.
    model: Any = service.model
    weights = {each: float(model.between[n, service.known(best.item)]) for n, each in
               enumerate(seen)}  # fmt: skip
    told = {each.item: each.drop for each in found.reasons}
    assert told == pytest.approx({n: w for n, w in weights.items() if w > 0}, abs=1e-5)


def test_who_has_no_history_is_given_no_reasons(services: Callable[[str], Service]) -> None:
    service = services("nmtr-gmf")
    found = service.explain(Request("nobody"), service.data.items.ids[3])
    assert (found.basis, found.reasons) == ("popular", ())


def test_long_histories_are_tried_by_what_is_most_like_the_item(
    services: Callable[[str], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = services("nmtr-gmf")
    user = users_of(service, 1)[0]
    best = service.recommend(Request(user, k=1)).items[0]
    every = service.explain(Request(user), best.item, most=100)
    monkeypatch.setattr(file, "TRIED", 3)
    some = service.explain(Request(user), best.item, most=100)
    assert len(some.reasons) <= 3
    assert {each.item for each in some.reasons} <= {each.item for each in every.reasons}
    assert len(service.explain(Request(user), best.item, most=1).reasons) == 1


@pytest.mark.parametrize("name", [*MODELS, "popularity", "mc-bpr"])
def test_similar_items_are_those_that_the_model_finds_alike(
    services: Callable[[str], Service], name: str
) -> None:
    service = services(name)
    item = service.data.items.ids[7]
    found = service.similar(item, k=5)
    assert len(found.items) == 5
    assert item not in [each for each, _ in found.items]
    values = [value for _, value in found.items]
    assert values == sorted(values, reverse=True)
    if found.by == "likeness":
        alike = service.model.alike(torch.tensor([7]))
        assert alike is not None
        order = [int(n) for n in np.argsort(-alike[0].detach().numpy()) if n != 7]
        assert values == pytest.approx(alike[0][order[:5]].tolist(), abs=1e-6)
    else:
        assert name == "popularity"


def test_similar_items_keep_to_rules_and_stock(service: Service) -> None:
    item = service.data.items.ids[7]
    rules = Rules(allow=(Condition("category", ("c1",)),))
    found = service.similar(item, k=100, rules=rules)
    assert {service.known(each) % 4 for each, _ in found.items} == {1}
    service.stock(service.data.items.ids.to_list()[:3])
    assert len(service.similar(item, k=100).items) == 3


def test_items_that_are_not_known_are_refused_by_their_id(service: Service) -> None:
    with pytest.raises(UnknownError, match="item 'x' is not among the 150 of the model"):
        service.similar("x")
    with pytest.raises(UnknownError, match="item 'x'"):
        service.explain(Request("u000001"), "x")


def test_a_model_that_cannot_follow_events_gives_no_reasons_but_masks(
    services: Callable[[str], Service],
) -> None:
    service = services("mc-bpr")
    user = users_of(service, 1)[0]
    answer = service.recommend(Request(user, k=5))
    bought = answer.items[0].item
    after = service.recommend(replace(Request(user, k=4), events=(Event(bought, "buy"),)))
    assert after.basis == "model"
    assert [each.item for each in after.items] == [each.item for each in answer.items[1:]]
    assert service.explain(Request(user), bought).reasons == ()
