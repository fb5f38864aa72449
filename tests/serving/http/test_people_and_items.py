"""What a user did, why an item is recommended, which items are alike."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from tests.serving.http.conftest import runtime_of
from tests.serving.http.test_recommendations import items, recommend, users


def test_a_user_s_funnel_holds_the_log_and_what_came_since(client: TestClient) -> None:
    user = users(client)[0]
    service = runtime_of(client).arms.arms[0].service
    found = client.get(f"/v1/users/{user}").json()
    expected = service.user(user)
    assert found["behaviors"] == {name: [str(e) for e in ids] for name, ids in expected.items()}
    assert found["known"]
    best = items(recommend(client, user=user, k=1))[0]
    client.post("/v1/events", json={"user": user, "item": best, "behavior": "cart"})
    assert best in client.get(f"/v1/users/{user}").json()["behaviors"]["cart"]
    stranger = client.get("/v1/users/never%2Fseen").json()
    assert (stranger["user"], stranger["known"]) == ("never/seen", False)


def test_without_the_reasons_that_it_names_the_score_is_lower(client: TestClient) -> None:
    """Of a visitor: the history is in our hands."""
    history = items(recommend(client, k=6))
    events = [{"item": each, "behavior": "view"} for each in history]
    best = recommend(client, events=events, slice="new", k=1)["items"][0]
    asked = {"item": best["item"], "events": events}
    found = client.post("/v1/explain", json=asked).json()
    assert found["behaviors"] == pytest.approx(best["behaviors"])
    assert found["basis"] == "fold-in"
    assert found["attributes"]["name"]
    assert found["reasons"], "something of six items carries it"
    for reason in found["reasons"]:
        left = [each for each in events if each["item"] != reason["item"]]
        without = client.post("/v1/explain", json={**asked, "events": left}).json()
        assert without["score"] < found["score"]
        assert reason["behaviors"] == ["view"]


def test_events_in_the_store_are_reasons_too(client: TestClient) -> None:
    item, other = items(recommend(client, k=2))
    client.post("/v1/events", json={"user": "new", "item": item, "behavior": "view"})
    found = client.get("/v1/explain", params={"user": "new", "item": other})
    assert found.status_code == 200
    assert found.json()["basis"] == "fold-in"
    unknown = client.get("/v1/explain", params={"user": "new", "item": "no such item"})
    assert unknown.status_code == 404
    assert client.get("/v1/explain", params={"user": "new"}).status_code == 422


def test_items_alike_keep_to_rules_and_leave_out_the_item_itself(client: TestClient) -> None:
    item = items(recommend(client, k=1))[0]
    rules = '{"allow": [{"column": "category", "in": ["c1"]}]}'
    answer = client.get(f"/v1/items/{item}/similar", params={"k": 5, "rules": rules})
    found = answer.json()
    assert len(found["items"]) == 5
    assert item not in items(found)
    assert {each["attributes"]["category"] for each in found["items"]} == {"c1"}
    values = [each["likeness"] for each in found["items"]]
    assert values == sorted(values, reverse=True)
    assert client.get("/v1/items/none/similar").status_code == 404


def test_the_model_card_says_what_is_served(client: TestClient) -> None:
    (arm,) = client.get("/v1/model").json()["arms"]
    assert arm["behaviors"] == ["view", "cart", "buy"]
    assert arm["catalogue"] == ["name", "category", "price"]
    assert arm["fingerprint"] == client.get("/readyz").json()["arms"]["control"]
    assert arm["share"] == 1
