"""Recommendations over HTTP: events count at once, rules hold, what was shown is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient
from tests.serving.http.conftest import DATABASES, runtime_of

from nmtr.serving.bundle import Bundle
from nmtr.serving.requests import Event, Request
from nmtr.serving.service import Service

Serve = Callable[..., TestClient]
pytestmark = pytest.mark.parametrize("database", DATABASES)


def recommend(client: TestClient, **asked: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def items(found: dict[str, Any]) -> list[str]:
    return [each["item"] for each in found["items"]]


def service(client: TestClient) -> Service:
    return runtime_of(client).arms.arms[0].service


def users(client: TestClient, n: int = 5) -> list[str]:
    bundle: Bundle = runtime_of(client).arms.arms[0].bundle
    return [str(each) for each in bundle.data.users.ids[:n].to_list()]


def test_it_answers_what_the_service_in_python_answers(client: TestClient) -> None:
    for user in users(client):
        found = client.get("/v1/recommendations", params={"user": user, "k": 7}).json()
        expected = service(client).recommend(Request(user, k=7))
        assert items(found) == [str(each.item) for each in expected.items]
        assert [each["score"] for each in found["items"]] == [e.score for e in expected.items]
        assert found["items"][0]["behaviors"] == expected.items[0].behaviors
        assert (found["basis"], found["arm"]) == ("model", "control")
        assert [each["position"] for each in found["items"]] == list(range(1, 8))
        assert {each["propensity"] for each in found["items"]} == {1.0}


def test_an_event_counts_in_the_next_answer(client: TestClient) -> None:
    user = users(client)[0]
    before = items(recommend(client, user=user, k=5))
    event = {"user": user, "item": before[0], "behavior": "buy", "event_id": "e1"}
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    after = recommend(client, user=user, k=5)
    assert before[0] not in items(after)
    assert after["basis"] == "fold-in"


def test_a_user_whom_nobody_knows_is_folded_in_from_their_first_event(client: TestClient) -> None:
    assert recommend(client, user="stranger")["basis"] == "popular"
    item = items(recommend(client, user="stranger"))[0]
    client.post("/v1/events", json={"user": "stranger", "item": item, "behavior": "view"})
    found = recommend(client, user="stranger", slice="new")
    assert found["basis"] == "fold-in"
    assert item not in items(found)


def test_an_anonymous_visitor_s_events_come_with_the_request(client: TestClient) -> None:
    some = items(recommend(client, k=3))
    events = [{"item": each, "behavior": "view"} for each in some]
    found = recommend(client, events=events, k=4)
    asked = Request(events=tuple(Event(each, "view") for each in some), k=4)
    assert items(found) == [str(each.item) for each in service(client).recommend(asked).items]
    assert found["basis"] == "fold-in"


def test_a_visitor_s_events_are_the_user_s_after_the_login_and_a_cookie_shows_no_account(
    client: TestClient,
) -> None:
    user = users(client)[0]
    best = items(recommend(client, user=user, k=1))[0]
    recommend(client, visitor="cookie")
    client.post("/v1/events", json={"visitor": "cookie", "item": best, "behavior": "buy"})
    assert best not in items(recommend(client, visitor="cookie"))
    assert best in items(recommend(client, user=user))
    login = {"visitor": "cookie", "user": user}
    assert client.post("/v1/identities", json=login).json() == {"status": "merged"}
    assert best not in items(recommend(client, user=user))
    assert client.post("/v1/identities", json=login).json() == {"status": "unchanged"}
    other = client.post("/v1/identities", json={"visitor": "cookie", "user": "another"})
    assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
    second = items(recommend(client, user=user, k=1))[0]
    client.post("/v1/events", json={"visitor": "cookie", "item": second, "behavior": "buy"})
    assert second not in items(recommend(client, user=user)), "an event after the login counts too"


def test_undo_takes_an_event_back(serve: Serve) -> None:
    client = serve(undo=("cart=uncart",))
    best = items(recommend(client, user="stranger", k=1))[0]
    asked = {"user": "stranger", "slice": "in-funnel", "rules": {"fallback": False}}
    client.post("/v1/events", json={"user": "stranger", "item": best, "behavior": "cart"})
    assert items(recommend(client, **asked)) == [best]
    client.post("/v1/events", json={"user": "stranger", "item": best, "behavior": "uncart"})
    assert items(recommend(client, **asked)) == []


def test_rules_hold_in_a_body_and_in_a_query(client: TestClient) -> None:
    user = users(client)[0]
    rules = {"allow": [{"column": "price", "from": 1, "to": 1.5}], "exclude": "nothing"}
    found = recommend(client, user=user, rules=rules, attributes=True)
    assert {each["attributes"]["category"] for each in found["items"]} == {"c1"}
    assert found["items"][0]["attributes"]["name"].startswith("thing ")
    query = {"user": user, "rules": '{"allow": [{"column": "category", "in": ["c1"]}]}'}
    assert client.get("/v1/recommendations", params=query).status_code == 200
    wrong = client.post(
        "/v1/recommendations",
        json={"user": user, "rules": {"allow": [{"column": "colour", "in": ["red"]}]}},
    )
    assert wrong.status_code == 422
    assert "category" in wrong.json()["detail"]


def test_a_request_that_cannot_be_met_does_not_spoil_those_scored_with_it(
    client: TestClient,
) -> None:
    from nmtr.errors import UsageError
    from nmtr.serving.http.engine import Question
    from nmtr.serving.rules import Rules

    engine = runtime_of(client).engine
    wrong = Question(None, 5, rules=Rules(diversity=0.5, diversify_by="colour"))
    fine = Question(None, 5)
    answers = engine.answer([fine, wrong, fine])
    assert [isinstance(each, bytes) for each in answers] == [True, False, True]
    assert isinstance(answers[1], UsageError)


def test_every_list_is_remembered_with_what_it_rests_on(client: TestClient) -> None:
    user = users(client)[0]
    shown = [recommend(client, user=user, k=3), recommend(client, visitor="v", k=2)]
    shown.append(recommend(client, k=1))
    home = runtime_of(client)
    home.exposures.settle()
    stored = pl.concat(home.store.exposures())
    assert stored["recommendation_id"].to_list() == [each["recommendation_id"] for each in shown]
    assert stored["items"].to_list() == [items(each) for each in shown]
    assert stored["user_id"].to_list() == [user, None, None]
    assert stored["visitor_id"].to_list() == [None, "v", None]
    assert set(stored["arm"]) == {"control"}
    assert set(stored["model"]) == {service(client).fingerprint}
    assert stored["propensities"].to_list() == [[1.0] * 3, [1.0] * 2, [1.0]]


def test_only_what_is_in_stock_is_shown_and_every_server_hears_of_it(serve: Serve) -> None:
    one, other = serve(), serve()
    some = items(recommend(one, k=4))[2:]
    put = one.put("/v1/stock", json={"items": [*some, "no such item"]})
    assert put.json() == {"version": 1, "listed": 3, "known": {"control": 2}}
    assert items(recommend(one)) == some
    runtime_of(other).follower.look()
    assert items(recommend(other)) == some
    patched = other.patch("/v1/stock", json={"remove": some[:1]})
    assert patched.json()["listed"] == 2
    assert items(recommend(other)) == some[1:]
    assert other.put("/v1/stock", json={"items": None}).json()["listed"] is None
    assert len(items(recommend(other))) == 20
    assert other.patch("/v1/stock", json={"add": ["x"]}).status_code == 422
    assert other.get("/v1/stock").json()["version"] == 3


def test_the_other_server_sees_events_logins_and_erasures_too(serve: Serve) -> None:
    one, other = serve(), serve()
    user = users(one)[0]
    first, second = items(recommend(other, user=user, k=2))
    one.post("/v1/events", json={"user": user, "item": first, "behavior": "buy"})
    runtime_of(other).follower.look()
    assert first not in items(recommend(other, user=user))
    one.post("/v1/events", json={"visitor": "v", "item": second, "behavior": "buy"})
    one.post("/v1/identities", json={"visitor": "v", "user": user})
    runtime_of(other).follower.look()
    assert second not in items(recommend(other, user=user))
    assert one.delete(f"/v1/users/{user}").status_code == 200
    runtime_of(other).follower._erasures()
    assert recommend(other, user=user)["basis"] == "popular"


def test_an_erased_person_is_a_stranger_and_leaves_nothing_behind(client: TestClient) -> None:
    user = users(client)[0]
    item = items(recommend(client, user=user))[0]
    client.post("/v1/events", json={"user": user, "item": item, "behavior": "cart"})
    receipt = client.delete(f"/v1/users/{user}").json()
    assert (receipt["events"], receipt["exposures"], receipt["compacted"]) == (1, 1, True)
    assert receipt["deadline"] > receipt["at"] > 1_500_000_000_000
    assert recommend(client, user=user)["basis"] == "popular", "not even the bundle's records count"
    again = client.post("/v1/events", json={"user": user, "item": item, "behavior": "cart"})
    assert again.json() == {"accepted": 0, "duplicates": 0, "conflicts": [], "erased": 1}
    assert client.delete(f"/v1/users/{user}").json()["hash"] == receipt["hash"]
    home = runtime_of(client)
    home.exposures.settle()
    assert pl.concat(home.store.exposures())["user_id"].to_list() == [None]


@pytest.mark.parametrize("odd", ["a/b", "a b?&=#", "ümläut", "'; drop table nmtr_events; --"])
def test_ids_may_be_any_text(client: TestClient, odd: str) -> None:
    assert recommend(client, user=odd)["basis"] == "popular"
    item = items(recommend(client))[0]
    client.post("/v1/events", json={"user": odd, "item": item, "behavior": "view"})
    found = client.get("/v1/recommendations", params={"user": odd}).json()
    assert found["basis"] == "fold-in"
    from urllib.parse import quote

    assert client.delete(f"/v1/users/{quote(odd, safe='')}").json()["events"] == 1
