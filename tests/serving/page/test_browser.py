"""The page in a real browser: keyboard, phone, dark, other people's words, assistive technology.

One Chromium and one service for all; skipped, with the reason, where there is no Chromium.
"""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import uvicorn

from nmtr.serving.bundling import write_bundle
from nmtr.serving.http.app import create_app
from nmtr.serving.http.options import Options
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.http.tokens import Tokens, read_tokens
from nmtr.serving.page.rendering import VIEWS
from nmtr.training.run import Run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install it")

HOSTILE = "<img src=x onerror='window.broken=1'><script>window.broken=2</script>\"'> {{7*7}}"
TOKEN = "t" * 20
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def hostile(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose catalogue would be scripts, if it were let."""
    n = finished.data.n_items
    pictures = ["javascript:window.broken=3", "http://127.0.0.1:9/none.png", None]
    catalogue = pl.DataFrame({
        "name": [f"{HOSTILE} {each}" if each % 2 else "x" * 120 for each in range(n)],
        "category": [HOSTILE] * n,
        "price": [float(each) for each in range(n)],
        "image_url": [pictures[each % 3] for each in range(n)],
    })  # fmt: skip
    path = tmp_path_factory.mktemp("hostile") / "model.nmtr"
    write_bundle(finished, path, catalogue=catalogue)
    return path


@contextmanager
def served(bundle: Path, data: Path, tokens: Tokens) -> Iterator[str]:
    """The address of a service in a thread."""
    options = Options(bundle=str(bundle), data=str(data), rate=0.0, timeout=60.0)
    runtime = Runtime(options, tokens=tokens)
    config = uvicorn.Config(create_app(runtime), log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    place = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{place.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def home(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(hostile, tmp_path_factory.mktemp("store"), Tokens({})) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Open]:
    """Opens tabs; whatever a page complains of fails the test."""
    contexts, complaints = [], []

    def start(address: str, **options: Any) -> Any:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda each: complaints.append(each.text) if unexpected(each) else None)
        page.goto(address)
        return page

    yield start
    for each in contexts:
        each.close()
    assert complaints == []


def unexpected(message: Any) -> bool:
    """A picture that is not there, and an answer that was refused, are what a test asked for."""
    asked_for = "Failed to load resource|Response Status Error|htmx:"
    return message.type == "error" and not re.search(asked_for, message.text)


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; Playwright's own way is eval, which the policy forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def settled(page: Any) -> None:
    """Wait until htmx has nothing under way, and what it brought has faded in."""
    until(page, "!document.querySelector('.htmx-request, .why .wait')")
    until(page, "!document.getAnimations().length")


def items(page: Any) -> list[str]:
    found: list[str] = page.locator(".pick .id").all_text_contents()
    return found


def show_a_user(page: Any) -> None:
    page.locator("[data-user]").first.click()
    page.wait_for_selector(".pick")
    settled(page)


def test_a_user_is_picked_and_read_by_keyboard_alone(home: str, tab: Open) -> None:
    page = tab(home)
    example = page.locator("[data-user]").first.text_content()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "user"
    page.keyboard.type(example, delay=1)
    page.keyboard.press("Escape")  # closes the suggestions
    page.keyboard.press("Enter")
    page.wait_for_selector(".pick")
    settled(page)
    assert f"10 recommendations for {example}" in page.text_content("#status")
    assert page.locator(".column").count() == 3
    assert page.locator(".pick").count() == 10
    assert page.locator(".bars >> text=P(buy)").count() == 10
    assert page.locator(".why .because").count() > 0
    assert page.url.endswith(f"#user={example}"), "the id stands where no server is told it"
    page.reload()
    page.wait_for_selector(".pick")
    outline = page.evaluate(
        "() => { const e = document.querySelector('#who button.main');"
        " e.focus({focusVisible: true}); return getComputedStyle(e).outlineWidth; }"
    )
    assert outline == "3px"


def test_a_visit_follows_from_its_clicks(home: str, tab: Open) -> None:
    page = tab(home + "/visit")
    page.wait_for_selector(".pick")
    assert page.locator(".bars").count() == 0, "nothing is known: no probability is shown"
    lists = [items(page)]
    for place in (1, 3):
        button = page.locator(f"#did-1-{place}")
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(f".trail li:nth-child({len(lists)})")
        settled(page)
        assert page.evaluate("document.activeElement !== document.body"), "the focus is kept"
        lists.append(items(page))
    assert lists[0] != lists[1] != lists[2]
    assert page.locator(".bars").count() == 10
    page.click("#back")
    page.wait_for_selector(".trail li:nth-child(2)", state="detached")
    settled(page)
    assert items(page) == lists[1]


def test_other_people_s_words_are_shown_and_not_run(home: str, tab: Open) -> None:
    page = tab(home)
    show_a_user(page)
    assert page.locator(f"text={HOSTILE[:20]}").count() > 0
    page.fill("#user", HOSTILE)
    page.click("#who button.main")
    page.wait_for_selector("text=is a stranger")
    settled(page)
    page.goto(f"{home}/visit#user=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    page.wait_for_selector(".pick")
    page.click("#did-2-2")
    page.wait_for_selector(".trail li")
    settled(page)
    assert page.evaluate("window.broken") is None
    sources = page.eval_on_selector_all(".thing img", "all => all.map(each => each.src)")
    assert set(sources) <= {"http://127.0.0.1:9/none.png"}
    shown = "[...document.querySelectorAll('.thing img')]"
    until(page, f"{shown}.every(each => each.matches('.gone') || !each.complete)")


def test_the_policy_would_stop_what_escaping_let_through(home: str, chromium: Any) -> None:
    page = chromium.new_page()
    page.goto(home)
    blocked = page.evaluate(
        "() => { const e = document.createElement('script'); e.textContent = 'window.broken = 4';"
        " document.body.append(e); return window.broken; }"
    )
    page.close()
    assert blocked is None


@pytest.fixture
def axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_a_phone_and_passes_axe(
    home: str, tab: Open, axe: str, scheme: str
) -> None:
    page = tab(home, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    grounds = set()
    for path in VIEWS:
        page.goto(home + path)
        if path == "/":
            show_a_user(page)
        elif path == "/visit":
            page.wait_for_selector(".pick")
            page.click("#did-1-1")
            page.wait_for_selector(".trail li")
        else:
            page.wait_for_selector("#result table, #result .facts")
        settled(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{path} is {width} px wide"
        page.evaluate(axe)
        rules = "{}" if scheme == "light" else "{runOnly: ['color-contrast']}"
        found = page.evaluate(
            f"async () => (await axe.run({rules})).violations.map("
            "each => [each.id, each.nodes.map(node => node.html).slice(0, 3)])"
        )
        assert found == [], path
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    (ground,) = grounds
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert light > 200 if scheme == "light" else light < 60


def test_a_token_is_asked_for_kept_in_the_tab_and_forgotten(
    hostile: Path, tab: Open, tmp_path: Path
) -> None:
    tokens = read_tokens("", {"NMTR_TOKENS": f"read:{TOKEN}"})
    with served(hostile, tmp_path / "data", tokens) as address:
        page = tab(address + "/model")
        until(page, "document.activeElement.name === 'token'")
        page.keyboard.type("w" * 20)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=does not know this token")
        page.fill("[name=token]", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".facts")
        page.goto(address + "/health")
        page.wait_for_selector(".facts")
        assert not page.is_visible("#token")
        assert page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
        assert TOKEN not in page.content()
        page.click("#forget")
        until(page, "document.activeElement.name === 'token'")
        assert page.evaluate("sessionStorage.getItem('nmtr-token')") is None


def test_a_service_that_is_gone_is_said_to_be(hostile: Path, tab: Open, tmp_path: Path) -> None:
    with served(hostile, tmp_path / "data", Tokens({})) as address:
        page = tab(address + "/health")
        page.wait_for_selector(".facts")
    page.click("text=Look again")
    page.wait_for_selector("text=cannot be reached")
