"""What the page makes of answers: pictures that are safe, numbers that say something."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from nmtr.serving.page import numbers
from nmtr.serving.page.figures import ends, estimates, health, mark, tables
from nmtr.serving.page.rendering import render
from nmtr.serving.page.things import funnel, picks, picture, thing

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>'{{7*7}}"


@pytest.mark.parametrize(
    "address",
    [
        "https://shop.example/a.png",
        "http://10.0.0.1:90/a b.png".replace(" ", "%20"),
        "/static/a.png",
    ],
)
def test_a_picture_is_taken_from_the_web_or_from_here(address: str) -> None:
    assert picture(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:image/svg+xml,<svg/>", "file:///etc/x",
        "//evil.example/a.png", "https:evil", "https://", "a.png", "", None, 7, "ftp://a/b.png",
        'https://a/"onerror="x', "https://a/\nb", "https://a/\\b", "java\tscript:x", "http://[a/b",
    ],
)  # fmt: skip
def test_no_other_address_becomes_a_picture(address: object) -> None:
    assert picture(address) == ""


@given(
    st.text("htps:/\\\"'<>` \n\t@[]%?#&;\x00", max_size=30).map("http".__add__) | st.text('/\\ "x:')
)
def test_what_becomes_a_picture_cannot_leave_its_attribute(address: str) -> None:
    found = picture(address)
    assert not set(found) & set("\"'<>` \\\n\t")
    assert found == "" or found.startswith(("http://", "https://", "/"))


def test_a_funnel_shows_what_went_on_furthest_first() -> None:
    things = {each: thing(each, {}) for each in "abcd"}
    done = {
        "view": [things[each] for each in "abcd"],
        "cart": [things[each] for each in "bd"],
        "buy": [things["d"]],
    }
    view, cart, buy = funnel(done)
    assert [(it.id, later) for it, later in view.items] == [
        ("d", ["cart", "buy"]), ("b", ["cart"]), ("a", []), ("c", []),
    ]  # fmt: skip
    assert [it.id for it, _ in cart.items] == ["d", "b"]
    assert (buy.total, buy.more) == (1, 0)


def test_bars_share_one_scale_and_scores_have_none() -> None:
    def answer(calibrated: bool) -> dict[str, Any]:
        chances = [{"view": 0.4, "buy": 0.1}, {"view": 0.2, "buy": 0.1}]
        items = [
            {"item": str(n), "position": n, "score": 0.5, "behaviors": each}
            for n, each in enumerate(chances, 1)
        ]
        return {"calibrated": calibrated, "items": items}

    found, scale = picks(answer(True))
    assert scale == 0.4
    assert [[bar.width for bar in each.bars] for each in found] == [
        [100, pytest.approx(25)], [pytest.approx(50), pytest.approx(25)],
    ]  # fmt: skip
    assert {bar.width for each in picks(answer(False))[0] for bar in each.bars} == {0.0}
    assert picks({"calibrated": True, "items": []}) == ([], 0.0)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.7441, "74 %"), (1.0, "100 %"), (0.0254, "2.5 %"), (0.00254, "0.25 %"), (0.0, "0 %"),
        (0.00003, "< 0.01 %"), (0.0995, "10 %"), (-0.012, "−1.2 %"), (None, "–"), (math.nan, "–"),
    ],
)  # fmt: skip
def test_shares_are_written_with_two_digits_that_say_something(
    share: float | None, text: str
) -> None:
    assert numbers.percent(share).replace(numbers.THIN, " ") == text


def test_other_numbers_are_written_as_people_read_them() -> None:
    assert numbers.count(12345).replace(numbers.THIN, " ") == "12 345"
    assert numbers.price(1234.5).replace(numbers.THIN, " ") == "1 234.50"
    assert numbers.price("from 3 €") == "from 3 €"
    assert numbers.score(-1.234) == "−1.23"
    drops = {1.0649: "−1.06", 0.1: "−0.10", 0.0351: "−0.035", 0.00434: "−0.0043", 0.03: "−0.03"}
    assert {each: numbers.fall(each) for each in drops} == drops
    assert numbers.fall(2e-7) == f"<{numbers.THIN}0.0001"
    assert numbers.seconds(0.0025).replace(numbers.THIN, " ") == "2.5 ms"
    assert numbers.seconds(2.5).replace(numbers.THIN, " ") == "2.5 s"
    assert numbers.p_value(0.0001).replace(numbers.THIN, " ") == "< 0.001"
    assert numbers.moment("2026-11-25T12:00:00+00:00") == "2026-11-25 12:00 UTC"
    assert numbers.moment("some day") == "some day"


def test_marks_stand_where_their_numbers_are_on_a_scale_that_holds_zero() -> None:
    scale = ends([0.2, None, -0.2, math.nan])
    assert scale == (-0.2, 0.2)
    found = mark(0.0, -0.1, 0.2, scale)
    assert (found.at, found.low, found.high) == (50, 25, 100)
    assert mark(0.0, None, None, ends([])).at == 0


def test_the_card_shows_test_before_validation_and_every_model_of_a_slice() -> None:
    def one(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean / 2, "high": mean * 2, "users": 9.0}

    def report(fold: str) -> dict[str, Any]:
        models = {
            name: {"all": {"hr@10": one(x), "ndcg@10": one(x / 2)}}
            for name, x in (("ours", 0.4), ("replay", 0.2))
        }
        return {"fold": fold, "protocol": "time", "in_words": f"{fold}.", "models": models}

    found = list(tables({"validation": report("validation"), "time": report("test"), "old": {}}))
    assert [each.words for each in found] == ["test.", "validation."]
    assert (found[0].metrics, found[0].plotted, found[0].top) == (
        ["hr@10", "ndcg@10"],
        "ndcg@10",
        0.4,
    )
    (every,) = found[0].slices
    assert [(each.model, list(each.values), each.mark.at) for each in every.lines] == [
        ("ours", [0.4, 0.2], 50), ("replay", [0.2, 0.1], 25),
    ]  # fmt: skip


def test_an_arm_of_which_nothing_is_known_has_no_mark() -> None:
    known = {"value": 0.1, "low": 0.0, "high": 0.2}
    marks, top = estimates(
        [{"conversion": known}, {"conversion": dict.fromkeys(known)}], "conversion"
    )
    assert top == 0.2
    assert marks[0] is not None
    assert (marks[0].at, marks[1]) == (50, None)


def test_health_counts_requests_between_the_bounds_of_their_times() -> None:
    registry = CollectorRegistry()
    requests = Counter("nmtr_requests", "", ("route", "status"), registry=registry)
    took = Histogram("nmtr_request_seconds", "", ("route",), buckets=(0.01, 0.1), registry=registry)
    for status, seconds in (("200", 0.001), ("200", 0.002), ("404", 0.05), ("503", 5.0)):
        requests.labels("a", status).inc()
        took.labels("a" if status == "200" else "b").observe(seconds)
    found = health(registry)
    assert (found.requests, found.failed) == (4, 1)
    assert [each.requests for each in found.columns] == [2, 1, 1]
    assert [each.height for each in found.columns] == [100, 50, 50]
    assert found.within == {"half": 0.01, "99 %": None}
    assert health(CollectorRegistry()).within == {"half": None, "99 %": None}


def test_nothing_of_a_catalogue_or_an_id_becomes_markup() -> None:
    hostile = thing(HOSTILE, {"name": HOSTILE, "category": HOSTILE, "price": HOSTILE})
    page = render(
        "visit", trail=[("view", hostile)], events=HOSTILE, arm=HOSTILE, arms=[HOSTILE, "b"],
        behaviors=["view"], asked={"events": HOSTILE},
        **dict(zip(("picks", "scale"), picks({
            "calibrated": True,
            "items": [{"item": HOSTILE, "position": 1, "score": 1.0, "behaviors": {HOSTILE: 0.1},
                       "attributes": {"name": HOSTILE, "image_url": "javascript:alert(1)"}}],
        }), strict=True)),
        answer={"basis": "fold-in", "calibrated": True, "unknown_events": 0},
    )  # fmt: skip
    assert "<script" not in page
    assert "<img" not in page
    assert "&#34;&gt;&lt;img" in page
    assert "javascript:" not in page
    assert "{{7*7}}" in page
