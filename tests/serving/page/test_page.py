"""The page over HTTP: what it holds, who may have it, and what it leaves no trace of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from tests.serving.http.conftest import bundled, database, kept, runtime_of, serve

from nmtr.serving.http.tokens import read_tokens
from nmtr.serving.page.rendering import HERE, VIEWS, files
from nmtr.serving.store import StoreUnavailableError

__all__ = ["bundled", "database", "kept", "serve"]

Serve = Callable[..., TestClient]
READ, WRITE = "r" * 20, "w" * 20
FRAGMENTS = ("/page/users", "/page/model", "/page/experiment", "/page/health")
SHA = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"


@pytest.fixture
def client(serve: Serve) -> TestClient:
    found = serve()
    found.headers["content-type"] = "application/x-www-form-urlencoded"
    return found


def known_user(client: TestClient) -> str:
    found = re.search(r'data-user="([^"]+)"', client.get("/page/users").text)
    assert found
    return found[1]


def test_every_view_is_a_shell_that_holds_no_script_and_no_style_of_its_own(
    client: TestClient,
) -> None:
    for path, (name, title) in VIEWS.items():
        found = client.get(path)
        assert found.status_code == 200, path
        assert found.headers["content-type"] == "text/html; charset=utf-8"
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "data:" not in policy
        assert found.headers["cache-control"] == "no-store"
        assert f"<title>{title} · nmtr</title>" in found.text
        assert found.text.count('aria-current="page"') == 1, name
        assert all("src=" in each for each in re.findall(r"<script[^>]*>", found.text))
        assert not re.search(r"<style| style=| on[a-z]+=", found.text)
        assert "http://" not in found.text, "everything comes from here"


def test_static_files_are_there_for_good_and_nothing_else_is(client: TestClient) -> None:
    page = client.get("/").text
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        found = client.get(address)
        assert found.status_code == 200, address
        assert "immutable" in found.headers["cache-control"]
        assert found.headers["x-content-type-options"] == "nosniff"
    for path in ("/static/..%2Frendering.py", "/static/htmx.LICENSE", "/static/none.js"):
        assert client.get(path).status_code == 404


def test_htmx_is_the_one_that_was_vendored_with_its_licence() -> None:
    from hashlib import sha256

    assert sha256(files()["htmx.min.js"].content).hexdigest() == SHA
    about = (HERE / "static" / "README.md").read_text()
    assert SHA in about
    assert "Zero-Clause BSD" in (HERE / "static" / "htmx.LICENSE").read_text()


def test_fragments_need_the_token_and_shells_do_not(serve: Serve) -> None:
    tokens = read_tokens("", {"NMTR_TOKENS": f"read:{READ} write:{WRITE}"})
    client = serve(tokens=tokens)
    for path in VIEWS:
        shell = client.get(path)
        assert shell.status_code == 200
        assert 'id="token"' in shell.text
    assert client.get("/static/page.js").status_code == 200
    for path in FRAGMENTS:
        assert client.get(path).status_code == 401, path
        bearer = {"Authorization": f"Bearer {READ}"}
        assert client.get(path, headers=bearer).status_code == 200, path
    for path in ("/page/like", "/page/user", "/page/visit", "/page/reason"):
        body = {"/page/reason": "user=x&item=1", "/page/visit": ""}.get(path, "user=x")
        assert client.post(path, content=body).status_code == 401, path
        for token, status in ((READ, {200, 404}), (WRITE, {403})):
            found = client.post(path, headers={"Authorization": f"Bearer {token}"}, content=body)
            assert found.status_code in status, (path, found.text)
    cookie = {"Cookie": f"token={READ}; Authorization=Bearer {READ}"}
    assert client.get("/page/model", headers=cookie).status_code == 401, "no cookie counts: no CSRF"


def test_without_tokens_the_page_is_for_its_own_host_only(client: TestClient) -> None:
    for path in ("/", "/page/model", "/static/page.js"):
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert 'id="token"' not in client.get("/").text


def test_a_user_s_page_says_what_the_api_says(client: TestClient) -> None:
    user = known_user(client)
    page = client.post("/page/user", data={"user": user}).text
    listed = client.get(f"/v1/recommendations?user={user}&k=10").json()
    shown = re.findall(r'data-item="([^"]+)"', page)
    assert shown == [each["item"] for each in listed["items"]]
    did = client.get(f"/v1/users/{user}").json()["behaviors"]
    for name, ids in did.items():
        assert f'aria-label="{name}"' in page
        assert re.search(rf"{name} <span class=\"total\">{len(ids)} item", page), name
    if listed["calibrated"]:
        assert page.count("P(buy)") == 10
        assert page.count("%</span>") >= 30


def test_a_stranger_is_said_to_be_one_and_gets_what_is_popular(client: TestClient) -> None:
    page = client.post("/page/user", data={"user": "nobody <b>"}).text
    assert "nobody &lt;b&gt; is a stranger" in page
    assert "P(buy)" not in page
    assert "most people bought" in page


def test_what_is_looked_at_is_not_remembered_as_shown(client: TestClient) -> None:
    user = known_user(client)
    client.post("/page/user", data={"user": user})
    client.post("/page/visit", data={})
    report = client.get("/v1/report/ab").json()
    assert report["arms"][0]["lists"] == report["lists_for_nobody"] == 0
    assert "nmtr_recommendations_total{" not in client.get("/metrics").text
    client.get(f"/v1/recommendations?user={user}")
    assert client.get("/v1/report/ab").json()["arms"][0]["lists"] == 1


def test_a_visit_goes_on_from_its_clicks_and_back(client: TestClient) -> None:
    first = client.post("/page/visit", data={}).text
    assert "what is popular" in first
    item = "1"
    did = json.dumps({"item": item, "behavior": "view"})
    second = client.post("/page/visit", data={"events": "[]", "did": did}).text
    assert "1 recommendations" not in second
    assert "after 1 click," in second
    events = json.dumps([{"item": item, "behavior": "view"}])
    asked = client.post(
        "/v1/recommendations", content=f'{{"k": 10, "events": {events}}}',
        headers={"content-type": "application/json"},
    ).json()  # fmt: skip
    shown = re.findall(r"&#34;item&#34;: ?&#34;([^&]+)&#34;", second)
    if asked["unknown_events"]:
        assert "left out" in second
    else:
        assert {each["item"] for each in asked["items"]} <= set(shown)
    back = client.post("/page/visit", data={"events": events, "keep": "0"}).text
    assert "after 0 clicks" in back


def test_a_reason_is_the_explanation_s(client: TestClient) -> None:
    user = known_user(client)
    page = client.post("/page/user", data={"user": user}).text
    item = re.findall(r'data-item="([^"]+)"', page)[0]
    said = client.get(f"/v1/explain?user={user}&item={item}&most=2").json()["reasons"]
    text = client.post("/page/reason", data={"user": user, "item": item}).text
    assert text.count('class="because"') == len(said)
    for each in said:
        name = "this very item" if each["item"] == item else each["attributes"]["name"]
        assert name in text


@pytest.mark.parametrize(
    ("path", "form", "status", "words"),
    [
        ("/page/user", {"user": ""}, 422, "user"),
        ("/page/user", {}, 422, "user"),
        ("/page/user", {"user": "a", "arm": "none"}, 422, "expected one of control"),
        ("/page/user", {"user": "a", "slice": "odd"}, 422, "slice"),
        ("/page/user", {"user": "a", "more": "1"}, 422, "more"),
        ("/page/visit", {"events": "{"}, 400, "JSON"),
        ("/page/visit", {"did": '{"item": "1", "behavior": "wish"}'}, 422, "wish"),
        ("/page/visit", {"arm": "none"}, 422, "expected one of control"),
        ("/page/reason", {"user": "a", "item": "no such"}, 404, "no such"),
    ],
)
def test_what_cannot_be_is_a_problem_in_words(
    client: TestClient, path: str, form: dict[str, str], status: int, words: str
) -> None:
    found = client.post(path, data=form)
    assert (found.status_code, found.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert words in found.json()["detail"]


def test_a_form_that_is_too_large_or_says_things_twice_is_refused(client: TestClient) -> None:
    assert client.post("/page/visit", content=b"events=" + b"x" * 2**20).status_code == 413
    assert client.post("/page/user", content=b"user=a&user=b").status_code == 422


def test_users_are_found_by_how_their_id_begins(client: TestClient) -> None:
    user = known_user(client)
    found = re.findall(r'value="([^"]+)"', client.post("/page/like", data={"user": user[:3]}).text)
    assert 1 <= len(found) <= 8
    assert all(each.startswith(user[:3]) for each in found)
    assert "option" not in client.post("/page/like", data={"user": ""}).text


def test_a_store_that_is_down_is_said_in_words(client: TestClient) -> None:
    runtime_of(client).follower.error = StoreUnavailableError("/secret/place")
    page = client.get("/page/health")
    assert page.status_code == 200
    assert "cannot be reached" in page.text
    assert "secret" not in page.text
    assert client.post("/page/user", data={"user": "a"}).status_code == 503
    assert client.get("/page/model").status_code == 200


def test_two_arms_can_be_looked_at_by_name(serve: Serve, bundled: str) -> None:
    client = serve(arm=(f"new={bundled}:0.5",), experiment="spring")
    del client.headers["content-type"]
    users = client.get("/page/users").text
    assert "<option>new</option>" in users
    for arm in ("control", "new"):
        page = client.post("/page/user", data={"user": known_user(client), "arm": arm}).text
        assert f"arm {arm}." in page
    assert "Nobody has met an arm yet" in client.get("/page/experiment").text
    client.get("/v1/recommendations?user=somebody")
    report = client.get("/page/experiment").text
    assert "Persons met the arms as their shares say" in report
    assert "too few persons yet" in report


def test_a_bundle_without_reports_and_one_arm_say_so(client: TestClient) -> None:
    assert "time, validation" in client.get("/page/model").text
    runtime_of(client).arms.arms[0].bundle.__dict__["reports"] = {}  # as of a run never evaluated
    assert "holds no report" in client.get("/page/model").text
    assert "nothing to compare" in client.get("/page/experiment").text
