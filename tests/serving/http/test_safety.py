"""Who may, how much, and what strangers learn: as little as can be."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.serving.http.conftest import runtime_of

from nmtr.errors import UsageError
from nmtr.serving.http.limits import Buckets
from nmtr.serving.http.options import Options, read_options
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.http.tokens import Tokens, read_tokens
from nmtr.serving.store import BusyError, StoreError, StoreFullError, StoreUnavailableError

Serve = Callable[..., TestClient]
READ, WRITE, BOTH = "r" * 20, "w" * 20, "b" * 20
EVENT = {"user": "secret-user", "item": "1", "behavior": "view"}


@pytest.fixture
def tokens() -> Tokens:
    return read_tokens("", {"NMTR_TOKENS": f"read:{READ}, write:{WRITE} read+write:{BOTH}"})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_each_token_may_do_what_its_scopes_say(serve: Serve, tokens: Tokens) -> None:
    client = serve(tokens=tokens)
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    asks: dict[str, Callable[[dict[str, str]], Any]] = {
        "read": lambda headers: client.get("/v1/recommendations", headers=headers),
        "read by POST": lambda headers: client.post(
            "/v1/recommendations", json={}, headers=headers
        ),
        "write": lambda headers: client.post("/v1/events", json=EVENT, headers=headers),
        "write by DELETE": lambda headers: client.delete("/v1/users/x", headers=headers),
    }
    for what, ask in asks.items():
        reads = what.startswith("read")
        assert ask(bearer(BOTH)).status_code == 200
        assert ask(bearer(READ)).status_code == (200 if reads else 403), what
        assert ask(bearer(WRITE)).status_code == (403 if reads else 200), what
        for wrong in ({}, bearer("x" * 20), {"Authorization": f"Basic {BOTH}"}, bearer("")):
            refused = ask(wrong)
            assert refused.status_code == 401, what
            assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer(READ)).status_code == 200


def test_tokens_come_from_a_file_and_the_environment_and_are_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# the shop\nread:{READ}\n\nwrite:{WRITE}  read:{WRITE}\n")
    found = read_tokens(str(file), {"NMTR_TOKENS": f"write:{READ}"})
    for token in (READ, WRITE):
        caller = found.caller(f"bearer {token}".encode())
        assert caller is not None
        assert caller.scopes == {"read", "write"}
        assert token not in repr(vars(found))
    assert found.caller(b"Bearer nobody") is None
    assert not read_tokens("", {})
    for wrong in ("admin:" + READ, READ, "read:short", "read:", f"read+{READ}"):
        with pytest.raises(UsageError) as refused:
            read_tokens("", {"NMTR_TOKENS": wrong})
        assert READ not in str(refused.value)
    file.write_text("# none\n")
    with pytest.raises(UsageError, match="no token"):
        read_tokens(str(file), {})
    with pytest.raises(UsageError, match="cannot be read"):
        read_tokens(str(tmp_path / "none"), {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "shop.example"])
def test_it_does_not_listen_to_the_world_without_a_token(
    host: str, bundled: Path, tmp_path: Path, tokens: Tokens
) -> None:
    options = Options(bundle=str(bundled), host=host, data=str(tmp_path / "data"))
    with pytest.raises(UsageError, match="needs tokens"):
        Runtime(options, tokens=Tokens({}))
    Runtime(options, tokens=tokens).close()


def test_without_tokens_other_sites_cannot_use_the_browser_of_who_runs_it(
    client: TestClient,
) -> None:
    assert client.get("/v1/model", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/v1/model", headers={"Host": "127.0.0.1:8000"}).status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        form = client.post("/v1/events", content=json.dumps(EVENT), headers={"content-type": kind})
        assert form.status_code == 415
    asked = client.options("/v1/events", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in asked.headers


def test_every_answer_has_the_headers_that_keep_browsers_safe(client: TestClient) -> None:
    for path in ("/healthz", "/v1/model", "/nothing", "/v1/recommendations?k=0"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_what_is_wrong_with_a_request_is_said_where_it_is(client: TestClient) -> None:
    def refused(status: int, words: str, body: Any, path: str = "/v1/events") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body)
        found = client.post(path, content=content)
        assert found.status_code == status, found.text
        assert found.headers["content-type"] == "application/problem+json"
        assert found.json()["status"] == status
        assert words in found.json()["detail"], found.text

    refused(400, "no JSON", b"{")
    refused(400, "no JSON", b'{"user": "\xff"}')
    refused(422, "behavior", {**EVENT, "behavior": "wishlist"})
    refused(422, ["view", "cart", "buy"][0], {**EVENT, "behavior": "wishlist"})
    refused(422, "user or a visitor", {"item": "1", "behavior": "view"})
    refused(422, "got both", {**EVENT, "visitor": "v"})
    refused(422, "price", {**EVENT, "price": 3})
    refused(422, "events", {"events": []})
    refused(422, "events", {"events": [EVENT] * 1001})
    refused(422, 'item: expected text, got a number; write "7"', {**EVENT, "item": 7})
    refused(422, "item: expected text, got a number", {**EVENT, "item": 10**30})
    refused(422, "events.0.item: expected text, got nothing", {"events": [{**EVENT, "item": None}]})
    renamed = {"user": "u", "item_id": "1", "behavior": "view"}
    refused(422, "item: expected, and not there; item_id: no such", renamed)
    refused(422, "item", {**EVENT, "item": "x" * 257})
    refused(422, "NUL", {**EVENT, "item": "a\0b"})
    refused(422, "timestamp", {**EVENT, "timestamp": -1})
    iso = {**EVENT, "timestamp": "2026-03-01T12:00:00Z"}
    refused(422, "timestamp: expected a whole number, got text", iso)
    seconds = {**EVENT, "timestamp": 1_764_057_600}
    refused(422, "timestamp: expected milliseconds, got 1764057600, which reads", seconds)
    refused(422, "k", {"k": 0}, "/v1/recommendations")
    refused(422, "got both", {"user": "a", "visitor": "b"}, "/v1/recommendations")
    refused(422, "diversity", {"rules": {"diversity": 1}}, "/v1/recommendations")
    many = {"events": [EVENT, {**EVENT, "behavior": "wishlist"}]}
    refused(422, "events.1.behavior", many)
    found = runtime_of(client).store.history(user_id="secret-user")
    assert found == [], "all events of a call are stored, or none"


def test_a_body_that_is_too_large_is_refused_however_it_comes(serve: Serve) -> None:
    client = serve(max_body=2000)
    assert client.post("/v1/events", content=b"x" * 3000).status_code == 413
    sent: list[int] = []

    def parts() -> Any:
        for _ in range(1000):
            sent.append(1)
            yield b"x" * 100

    assert client.post("/v1/events", content=parts()).status_code == 413
    assert client.post("/v1/events", json=EVENT).status_code == 200


def test_a_client_that_asks_too_often_is_told_when_to_come_back(
    serve: Serve, tokens: Tokens
) -> None:
    client = serve(rate=2.0, tokens=tokens)
    found = [client.get("/v1/model", headers=bearer(READ)) for _ in range(6)]
    assert [each.status_code for each in found[:4]] == [200] * 4
    assert found[5].status_code == 429
    assert int(found[5].headers["retry-after"]) >= 1
    assert client.get("/v1/model", headers=bearer(BOTH)).status_code == 200, "another client"
    assert client.get("/healthz").status_code == 200


@given(
    rate=st.floats(0.5, 50),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_a_bucket_never_lets_more_through_than_its_rate(rate: float, gaps: list[float]) -> None:
    now = 0.0
    buckets = Buckets(rate, clock=lambda: now)
    passed = 0
    for gap in gaps:
        now += gap
        wait = buckets.take("c")
        passed += wait == 0
        assert passed <= now * rate + buckets.size + 1e-6
        if wait:
            now += wait + 1e-9
            assert buckets.take("c") == 0, "after the wait that was named it goes on"
            passed += 1


def test_buckets_of_too_many_clients_are_forgotten_and_0_means_no_limit() -> None:
    buckets = Buckets(1, clock=lambda: 0.0)
    for each in range(12_000):
        buckets.take(str(each))
    assert len(buckets._left) == 10_000
    assert all(Buckets(0).take("c") == 0 for _ in range(100))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BusyError("/secret/place"), "busy"),
        (StoreFullError("/secret/place"), "full"),
        (StoreUnavailableError("/secret/place"), "cannot be reached"),
        (StoreError("/secret/place"), "repeat"),
    ],
)
def test_a_store_that_fails_is_503_without_its_place(
    error: Exception, words: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(runtime_of(client).store, "submit", fail)
    found = client.post("/v1/events", json=EVENT)
    assert found.status_code == 503
    assert int(found.headers["retry-after"]) >= 1
    assert words in found.json()["detail"]
    assert "secret" not in found.text


def test_nobody_sees_a_stack_trace_and_no_log_sees_an_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError("about secret-user")

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(runtime_of(client).store, "submit", fail)
    with caplog.at_level(logging.DEBUG, logger="nmtr"):
        found = client.post("/v1/events", json=EVENT)
        client.get("/v1/recommendations?user=secret-user")
        client.delete("/v1/users/secret-user")
    assert found.status_code == 500
    assert "RuntimeError" not in found.text
    assert "Traceback" not in found.text
    mine = [each for each in caplog.records if each.name.startswith("nmtr")]
    text = "\n".join(each.getMessage() for each in mine)
    assert "routes/events.py" in text, "where it happened"
    assert "/v1/users/{user}" in text
    assert "secret-user" not in text


def test_more_than_can_wait_is_refused_at_once_and_the_rest_answered(serve: Serve) -> None:
    client = serve(waiting=2)
    home = runtime_of(client)
    begun, go_on = threading.Event(), threading.Event()
    real = home.engine.answer

    def slow(questions: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return real(questions)

    home.batcher._work = slow
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(client.get("/v1/recommendations").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    threads[0].start()
    assert begun.wait(10)
    for each in threads[1:3]:
        each.start()
    while home.batcher.waiting < 2:
        time.sleep(0.01)
    refused = client.get("/v1/recommendations")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    go_on.set()
    for each in threads[:3]:
        each.join()
    assert statuses == [200] * 3


def test_what_takes_too_long_is_503(serve: Serve) -> None:
    client = serve(timeout=0.2)
    home = runtime_of(client)
    real = home.engine.answer

    def slow(questions: Any) -> Any:
        time.sleep(0.5)
        return real(questions)

    home.batcher._work = slow
    found = client.get("/v1/recommendations")
    assert found.status_code == 503
    assert "0.2 s" in found.json()["detail"]


def test_a_body_that_never_comes_is_408(serve: Serve) -> None:
    client = serve(timeout=0.2)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/events", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-length", b"9"),
                    (b"content-type", b"application/json")],
    }  # fmt: skip
    asyncio.run(client.app(scope, never, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_options_come_from_a_file_under_those_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('bundle = "m.nmtr"\nport = 9000\nundo = ["cart=uncart"]\nrate = 5\n')
    found = read_options(file, {"port": 9001})
    assert (found.bundle, found.port, found.rate) == ("m.nmtr", 9001, 5.0)
    assert found.undone() == {"uncart": "cart"}
    wrong = {
        "prot = 9000": "did you mean 'port'",
        "port = 99999": "0 to 65535",
        "exploration = 0.9": "0.5",
        "timeout = 0": "timeout",
        'undo = ["cart"]': "NAME=VALUE",
        'log_level = "loud"': "debug",
        "port =": "TOML",
    }
    for text, words in wrong.items():
        file.write_text(f'bundle = "m.nmtr"\n{text}\n')
        with pytest.raises(UsageError, match=words):
            read_options(file, {})
    file.write_text('bundle = "m.nmtr"\nrate = "fast"\n')
    with pytest.raises(UsageError, match=r"^serve, with .*serve\.toml, option 'rate'"):
        read_options(file, {"port": 9001})
    with pytest.raises(UsageError, match=r"^serve: name a bundle"):
        read_options(None, {})
