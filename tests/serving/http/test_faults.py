"""What fails around the service, and what it does: a stated answer, and recovery by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serving.http.conftest import runtime_of
from tests.serving.store.conftest import Cluster
from tests.serving.store.test_failures import disk

__all__ = ["disk"]

from nmtr.errors import UsageError
from nmtr.serving.http.options import Options
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.http.tokens import Tokens
from nmtr.serving.store import Event

Serve = Callable[..., TestClient]


def await_status(client: TestClient, path: str, status: int) -> Any:
    end = time.monotonic() + 20
    while (found := client.get(path)).status_code != status:
        assert time.monotonic() < end, found.text
        time.sleep(0.02)
    return found


def test_without_its_store_it_is_not_ready_and_it_comes_back_with_it(
    client: TestClient, tmp_path: Path
) -> None:
    folder, aside = tmp_path / "data", tmp_path / "aside"
    item = client.get("/v1/recommendations").json()["items"][0]["item"]
    event = {"user": "u", "item": item, "behavior": "view"}
    assert client.post("/v1/events", json=event).status_code == 200
    folder.rename(aside)
    found = await_status(client, "/readyz", 503)
    assert int(found.headers["retry-after"]) >= 1
    for answer in (
        client.post("/v1/events", json=event),
        client.get("/v1/recommendations?user=u"),
        client.delete("/v1/users/u"),
        client.put("/v1/stock", json={"items": ["1"]}),
    ):
        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text
    assert client.get("/healthz").status_code == 200
    assert "nmtr_store_up 0.0" in client.get("/metrics").text
    aside.rename(folder)
    await_status(client, "/readyz", 200)
    assert client.post("/v1/events", json=event).status_code == 200
    assert client.get("/v1/recommendations?user=u").json()["basis"] == "fold-in"
    assert len(runtime_of(client).store.history(user_id="u")) == 2


def test_a_clock_that_jumps_changes_no_order_and_stops_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(rate=50.0)
    items = [each["item"] for each in client.get("/v1/recommendations?k=3").json()["items"]]
    real_ns, real = time.time_ns, time.time
    for jump, item in zip((0, -400 * 86_400, 800 * 86_400), items, strict=True):
        monkeypatch.setattr(time, "time_ns", lambda by=jump: real_ns() + by * 10**9)
        monkeypatch.setattr(time, "time", lambda by=jump: real() + by)
        event = {"user": "u", "item": item, "behavior": "buy"}
        assert client.post("/v1/events", json=event).status_code == 200
        found = client.get("/v1/recommendations?user=u").json()
        assert item not in [each["item"] for each in found["items"]]
    stored = runtime_of(client).store.history(user_id="u")
    assert [each.item_id for each in stored] == items
    assert [each.seq for each in stored] == sorted(each.seq for each in stored)


def test_a_list_that_cannot_be_remembered_is_counted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    from nmtr.serving.store import Receipt, StoreFullError

    failed: Future[Receipt] = Future()
    failed.set_exception(StoreFullError("full"))
    home: Runtime = runtime_of(client)
    monkeypatch.setattr(home.store, "show", lambda _: failed)
    assert client.get("/v1/recommendations").status_code == 200
    home.exposures.flush()
    assert "nmtr_exposures_lost_total 1.0" in client.get("/metrics").text


def test_postgresql_that_goes_away_is_503_until_it_is_back(
    serve: Serve, cluster: Cluster, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("a key that only the tests have")
    client = serve(store=cluster.place(), key_file=str(key))
    item = client.get("/v1/recommendations").json()["items"][0]["item"]
    event = {"user": "u", "item": item, "behavior": "view"}
    assert client.post("/v1/events", json=event).status_code == 200
    cluster.stop()
    try:
        await_status(client, "/readyz", 503)
        refused = client.post("/v1/events", json=event)
        assert refused.status_code == 503
        assert cluster.user not in refused.text
        assert str(cluster.folder) not in refused.text
        assert client.get("/v1/recommendations?user=u").status_code == 503
    finally:
        cluster.start()
    await_status(client, "/readyz", 200)
    assert client.post("/v1/events", json=event).status_code == 200
    assert client.get("/v1/recommendations?user=u").json()["basis"] == "fold-in"


def test_a_store_elsewhere_needs_its_key(bundled: Path) -> None:
    options = Options(bundle=str(bundled), store="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(UsageError, match="erasure key"):
        Runtime(options, tokens=Tokens({}))


def test_after_an_erasure_a_byte_search_of_the_data_folder_finds_nothing(
    client: TestClient, tmp_path: Path
) -> None:
    person = "wilhelmina-93117"
    item = client.get("/v1/recommendations").json()["items"][0]["item"]
    for who in ({"user": person}, {"visitor": "cookie-55120"}):
        client.post("/v1/events", json={**who, "item": item, "behavior": "view"})
        client.get("/v1/recommendations", params=who)
    client.post("/v1/identities", json={"visitor": "cookie-55120", "user": person})
    runtime_of(client).exposures.settle()

    def found() -> set[str]:
        return {
            word
            for word in (person, "cookie-55120")
            for file in (tmp_path / "data").rglob("*")
            if file.is_file() and word.encode() in file.read_bytes()
        }

    assert found() == {person, "cookie-55120"}
    receipt = client.delete(f"/v1/users/{person}").json()
    assert (receipt["visitors"], receipt["events"], receipt["compacted"]) == (1, 2, True)
    assert found() == set()


def test_a_full_disk_stores_nothing_and_answers_go_on(serve: Serve, disk: Path) -> None:
    client = serve(data=str(disk))
    item = client.get("/v1/recommendations").json()["items"][0]["item"]
    event = {"user": "u", "item": item, "behavior": "view"}
    assert client.post("/v1/events", json=event).status_code == 200
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 2**20)
    promised = 0
    for _ in range(100):
        many = {"events": [{**event, "user": f"u{n}"} for n in range(500)]}
        answer = client.post("/v1/events", json=many)
        if answer.status_code != 200:
            break
        promised += 1
    assert answer.status_code == 503
    assert "full" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    assert client.get("/v1/recommendations?user=u").json()["basis"] == "fold-in"
    ballast.unlink()
    assert client.post("/v1/events", json=event).status_code == 200
    home = runtime_of(client)
    assert len(home.store.history(user_id="u")) == 2
    assert len(home.store.history(user_id="u499")) == promised, "whole calls or none"


def test_a_store_that_turns_read_only_is_503_and_answers_go_on(client: TestClient) -> None:
    writer = runtime_of(client).store._database._writer  # type: ignore[attr-defined]
    writer.connection.execute("PRAGMA query_only=ON")
    item = client.get("/v1/recommendations").json()["items"][0]["item"]
    refused = client.post("/v1/events", json={"user": "u", "item": item, "behavior": "view"})
    assert refused.status_code == 503
    assert "can be read and not written" in refused.json()["detail"]
    assert client.get("/readyz").status_code == 200
    writer.connection.execute("PRAGMA query_only=OFF")


def test_stored_events_of_a_behavior_that_a_new_bundle_lacks_are_passed_over(
    client: TestClient,
) -> None:
    home = runtime_of(client)
    item = client.get("/v1/recommendations").json()["items"][0]["item"]
    home.store.append([Event(item, "wishlist", "u"), Event(item, "view", "u")])
    found = client.get("/v1/recommendations?user=u")
    assert found.json()["basis"] == "fold-in"
    assert client.get("/v1/users/u").json()["behaviors"]["view"] == [item]
