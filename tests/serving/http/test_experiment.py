"""Two bundles side by side, and lists drawn at random: who gets what, and what the report says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.serving.http.conftest import runtime_of
from tests.serving.http.test_recommendations import items, recommend, users

from nmtr.errors import UsageError
from nmtr.serving.http.arms import point, sides

Serve = Callable[..., TestClient]


def test_users_keep_their_arm_by_share_and_another_experiment_deals_anew(
    serve: Serve, another: Path
) -> None:
    options = {"arm": (f"new={another}:0.25",), "experiment": "spring"}
    one, other = serve(**options), serve(**{**options, "experiment": "summer"})
    names = [f"user-{n}" for n in range(300)]
    first = [runtime_of(one).arms.of(f"user\0{each}").name for each in names]
    again = [recommend(one, user=each, k=1)["arm"] for each in names]
    assert first == again
    assert 45 <= first.count("new") <= 105
    anew = [runtime_of(other).arms.of(f"user\0{each}").name for each in names]
    moved = sum(a == "new" and b == "new" for a, b in zip(first, anew, strict=True))
    assert moved < first.count("new") / 2
    models = {each["name"]: each["fingerprint"] for each in one.get("/v1/model").json()["arms"]}
    for each in names[:20]:
        found = recommend(one, user=each, k=1)
        assert found["model"] == models[found["arm"]]
    runtime_of(one).exposures.settle()
    logged = set(pl.concat(runtime_of(one).store.exposures())["arm"])
    assert logged == {"spring/control", "spring/new"}


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_point_lies_between_0_and_1_and_stays(experiment: str, who: str) -> None:
    assert 0 <= point(experiment, who) < 1
    assert point(experiment, who) == point(experiment, who)


def test_points_are_even() -> None:
    found = Counter(int(10 * point("x", f"user\0{n}")) for n in range(20_000))
    assert len(found) == 10
    assert all(1_800 < each < 2_200 for each in found.values())


def test_shares_leave_some_to_the_control() -> None:
    found = sides("a.nmtr", ["b=b.nmtr:0.2", "c=dir:x/c.nmtr:0.3"])
    assert [(each.name, str(each.path), round(each.share, 9)) for each in found] == [
        ("control", "a.nmtr", 0.5), ("b", "b.nmtr", 0.2), ("c", "dir:x/c.nmtr", 0.3),
    ]  # fmt: skip
    wrong = [
        (["b=b.nmtr:0.5", "c=c.nmtr:0.5"], "sum to 1"),
        (["b=b.nmtr:0.1", "b=c.nmtr:0.1"], "a name each"),
        (["control=c.nmtr:0.1"], "a name each"),
        (["b=b.nmtr"], "NAME=BUNDLE:SHARE"),
        (["b=b.nmtr:1.5"], "NAME=BUNDLE:SHARE"),
        (["b b=b.nmtr:0.5"], "NAME=BUNDLE:SHARE"),
    ]
    for others, words in wrong:
        with pytest.raises(UsageError, match=words):
            sides("a.nmtr", others)


def test_explored_lists_keep_to_the_rules_and_log_their_chances(serve: Serve) -> None:
    client = serve(exploration=0.5, exploration_pool=30)
    user = users(client)[0]
    best = items(recommend(serve(), user=user, k=30))
    explored = 0
    for _ in range(60):
        found = recommend(client, user=user, k=5)
        for at, each in enumerate(found["items"]):
            assert each["item"] in best
            by_rank = 0.5 if each["item"] == best[at] else 0
            assert each["propensity"] == pytest.approx(0.5 / 30 + by_rank)
        if found["explored"]:
            explored += 1
        else:
            assert items(found) == best[:5]
    assert 15 <= explored <= 45
    rules = {"allow": [{"column": "category", "in": ["c1"]}], "diversity": 0.2}
    for _ in range(10):
        found = recommend(client, user=user, k=5, rules=rules, attributes=True)
        assert {each["attributes"]["category"] for each in found["items"]} == {"c1"}


def test_the_report_follows_lists_and_what_came_of_them(serve: Serve, another: Path) -> None:
    client = serve(arm=(f"new={another}:0.5",), experiment="spring", exploration=0.2)
    arms = Counter[str]()
    for n in range(40):
        found = recommend(client, user=f"user-{n}", k=3)
        arms[found["arm"]] += 1
        if n % 4 == 0:
            event = {
                "user": f"user-{n}", "item": items(found)[0], "behavior": "buy",
                "recommendation_id": found["recommendation_id"],
            }  # fmt: skip
            assert client.post("/v1/events", json=event).status_code == 200
    answer = client.get("/v1/report/ab", params={"window_hours": 1e-7})
    report = answer.json()
    assert report["experiment"] == "spring"
    assert report["behavior"] == "buy"
    assert {each["name"]: each["persons"] for each in report["arms"]} == arms
    assert sum(each["per_list"]["cited"] for each in report["arms"]) == 10
    assert not report["dealing"]["mismatch"]
    assert report["arms"][1]["conversion"]["difference"]["low"] is None, "too few persons"
    assert client.get("/v1/report/ab?behavior=wish").status_code == 422
    views = client.get("/v1/report/ab?behavior=view").json()
    assert sum(each["per_list"]["cited"] for each in views["arms"]) == 0
