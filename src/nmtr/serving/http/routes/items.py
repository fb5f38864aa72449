"""Items: those like one, and why one is recommended."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import ExplanationOut, SimilarOut
from nmtr.serving.http.arms import Arm
from nmtr.serving.http.asked import ExplainIn, ExplainQuery, SimilarQuery
from nmtr.serving.http.engine import Question, attributes
from nmtr.serving.http.openapi import Direct, answers, body, joined, path, query
from nmtr.serving.http.routes.common import answer, in_body, in_path, in_query, runtime
from nmtr.serving.http.routes.recommendations import expect_known
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.rules import Rules

router = APIRouter(route_class=Direct, tags=["items"])
EXPLAINED = answers(ExplanationOut, 400, 404, 408, 413, 415, 422)


@router.get(
    "/v1/items/{item:path}/similar", summary="Items like one",
    responses=answers(SimilarOut, 404, 422),
    openapi_extra=joined(path("item", "an item's id, percent-encoded"), query(SimilarQuery)),
)  # fmt: skip
async def similar(request: Request) -> Response:
    """Of those that the rules' conditions and lists allow, by the first arm's model."""
    item, asked, home = in_path("item", request), in_query(SimilarQuery, request), runtime(request)
    home.expect_store()
    arm = home.arms.arms[0]
    rules = asked.rules.rules() if asked.rules else Rules()

    def work() -> dict[str, Any]:
        found = arm.service.similar(item, k=asked.k, rules=rules)
        alike = [
            {"item": str(each), "likeness": value, "attributes": attributes(arm, each)}
            for each, value in found.items
        ]
        return {
            "item": item, "arm": arm.name, "by": found.by, "attributes": attributes(arm, item),
            "items": alike,
        }  # fmt: skip

    return answer(await home.run(work))


@router.get(
    "/v1/explain", summary="Why an item is recommended", responses=EXPLAINED,
    openapi_extra=query(ExplainQuery),
)  # fmt: skip
async def explain(request: Request) -> Response:
    """Which items of the history carry the score: without them it would be lower."""
    asked = in_query(ExplainQuery, request)
    question = Question(asked.person(), 1)
    return answer(await explained(runtime(request), question, asked.item, asked.most))


@router.post(
    "/v1/explain", summary="Why an item is recommended to who did these events",
    responses=EXPLAINED,
    openapi_extra=body(
        [ExplainIn],
        {"a visitor": {"item": "sku-1", "events": [{"item": "sku-7", "behavior": "view"}]}},
    ),
)  # fmt: skip
async def explain_events(request: Request) -> Response:
    asked, home = await in_body(ExplainIn, request), runtime(request)
    events = tuple(each.event(home.live.undo) for each in asked.events)
    expect_known(home, events)
    question = Question(asked.person(), 1, events=events)
    return answer(await explained(home, question, asked.item, asked.most))


async def explained(home: Runtime, question: Question, item: str, most: int) -> dict[str, Any]:
    home.expect_store()

    def work() -> dict[str, Any]:
        arm, request = home.engine.about(question)
        found = arm.service.explain(request, item, most=most)
        return {
            **asdict(found), "item": str(found.item), "arm": arm.name, "model": arm.model,
            "attributes": attributes(arm, item),
            "reasons": [_reason(arm, asdict(each)) for each in found.reasons],
        }  # fmt: skip

    return await home.run(work)


def _reason(arm: Arm, found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "item": str(found["item"]), "attributes": attributes(arm, found["item"])}
