"""Recommendations: for a user, a visitor, or somebody whose events come with the request."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import RecommendationsOut
from nmtr.serving.http.asked import RecommendIn, RecommendQuery, RulesIn
from nmtr.serving.http.engine import Question
from nmtr.serving.http.openapi import Direct, answers, body, query
from nmtr.serving.http.problems import Problem
from nmtr.serving.http.routes.common import in_body, in_query, runtime
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.requests import Event
from nmtr.serving.rules import Rules

router = APIRouter(route_class=Direct, tags=["recommendations"])
PLAIN = Rules()
EXAMPLE = {
    "recommendation_id": "6f1c7e0a5b9d4c53a1f0c6f1d2b7e8a4",
    "arm": "control",
    "model": "5b1f0c2e9a7d",
    "basis": "fold-in",
    "calibrated": True,
    "explored": False,
    "unknown_events": 0,
    "items": [
        {"item": "sku-1", "position": 1, "score": 1.25, "propensity": 1.0,
         "behaviors": {"view": 0.31, "cart": 0.12, "buy": 0.04}},
    ],
}  # fmt: skip
ASKED = {
    "a user": {"user": "alice", "k": 10},
    "an anonymous visitor": {
        "events": [{"item": "sku-7", "behavior": "view"}], "k": 5, "slice": "new",
    },
    "rules": {
        "user": "alice",
        "rules": {
            "exclude": "bought", "allow": [{"column": "price", "to": 20}], "diversity": 0.3,
            "repurchase_days": {"food": 30},
        },
    },
}  # fmt: skip
ANSWERS = answers(RecommendationsOut, 400, 408, 413, 415, 422, example=EXAMPLE)


@router.get(
    "/v1/recommendations", summary="Recommend to a user", responses=ANSWERS,
    openapi_extra=query(RecommendQuery),
)  # fmt: skip
async def get(request: Request) -> Response:
    asked = in_query(RecommendQuery, request)
    question = Question(
        asked.person(), asked.k, asked.slice, _rules(asked.rules), (), asked.attributes
    )
    return await _answer(runtime(request), question)


@router.post(
    "/v1/recommendations", summary="Recommend to a user, or to who did these events",
    responses=ANSWERS, openapi_extra=body([RecommendIn], ASKED),
)  # fmt: skip
async def post(request: Request) -> Response:
    asked, home = await in_body(RecommendIn, request), runtime(request)
    undo = home.live.undo
    events = tuple(each.event(undo) for each in asked.events)
    expect_known(home, events)
    question = Question(
        asked.person(), asked.k, asked.slice, _rules(asked.rules), events, asked.attributes
    )
    return await _answer(home, question)


async def _answer(home: Runtime, question: Question) -> Response:
    return Response(await listed(home, question), media_type="application/json")


async def listed(home: Runtime, question: Question) -> bytes:
    """The answer as JSON."""
    home.expect_store()
    return await home.batcher.ask(question)


def expect_known(home: Runtime, events: tuple[Event, ...]) -> None:
    """Raise the problem of a behaviour that no arm knows."""
    known = home.arms.behaviors
    for each in events:
        if each.behavior not in known:
            names = ", ".join((*known, *home.live.undo))
            raise Problem(422, f"behavior: expected one of {names}, got {each.behavior!r}")


def _rules(asked: RulesIn | None) -> Rules:
    return PLAIN if asked is None else asked.rules()
