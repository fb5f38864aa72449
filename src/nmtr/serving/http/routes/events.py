"""Events: what users do, acknowledged when it is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import IdentityOut, ReceiptOut
from nmtr.serving.http.asked import EventIn, EventsIn, IdentityIn, OneOrMany
from nmtr.serving.http.live import Person
from nmtr.serving.http.openapi import Direct, answers, body
from nmtr.serving.http.problems import Problem
from nmtr.serving.http.routes.common import answer, in_body, runtime
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.store import Event

router = APIRouter(route_class=Direct, tags=["events"])
RECEIPT = {"accepted": 1, "duplicates": 0, "conflicts": [], "erased": 0}
EXAMPLES = {
    "one": {
        "event_id": "9f1c", "user": "alice", "item": "sku-1", "behavior": "buy",
        "recommendation_id": "6f1c7e0a5b9d4c53a1f0c6f1d2b7e8a4",
    },
    "many": {"events": [
        {"event_id": "9f1d", "visitor": "v-77", "item": "sku-1", "behavior": "view",
         "timestamp": 1764057600000},
        {"event_id": "9f1e", "visitor": "v-77", "item": "sku-1", "behavior": "cart"},
    ]},
}  # fmt: skip


@router.post(
    "/v1/events", summary="Store events",
    responses=answers(ReceiptOut, 400, 408, 413, 415, 422, example=RECEIPT),
    openapi_extra=body([EventsIn, EventIn], EXAMPLES),
)  # fmt: skip
async def post(request: Request) -> Response:
    """Store one event or up to 1,000, all or none; the answer comes when they are on the disk."""
    asked, home = (await in_body(OneOrMany, request)).root, runtime(request)
    given = asked.events if isinstance(asked, EventsIn) else [asked]
    events = _events(home, given)
    home.exposures.flush()
    receipt = await asyncio.wrap_future(home.store.submit(events))
    await forget(home, {each for one in given if (each := one.person())})
    for outcome, count in zip(OUTCOMES, (*receipt[:2], len(receipt[2]), receipt[3]), strict=True):
        home.metrics.events.labels(outcome).inc(count)
    if receipt.accepted == len(given):
        behaviors, items = [each.behavior for each in given], [each.item for each in given]
        home.metrics.drift.accepted(home.arms.arms[0], behaviors, items)
    return answer({**receipt._asdict(), "conflicts": list(receipt.conflicts)})


@router.post(
    "/v1/identities", summary="A visitor logs in",
    responses=answers(
        IdentityOut, 400, 408, 409, 410, 413, 415, 422, example={"status": "merged"}
    ),
    openapi_extra=body([IdentityIn], {"a login": {"visitor": "v-77", "user": "alice"}}),
)  # fmt: skip
async def identities(request: Request) -> Response:
    """Give the events of a visitor, past and to come, to a user. A repeat changes nothing."""
    asked, home = await in_body(IdentityIn, request), runtime(request)
    status = await home.run(lambda: home.store.merge(visitor_id=asked.visitor, user_id=asked.user))
    home.live.owned(asked.visitor, asked.user)
    await forget(home, {Person("user", asked.user), Person("visitor", asked.visitor)})
    return answer({"status": status})


async def forget(home: Runtime, persons: set[Person]) -> None:
    """Let the next answers see what is new, even though a visitor's owner must be looked up."""
    if home.live.at_hand(persons):
        home.live.forget(persons)
    else:
        await home.run(lambda: home.live.forget(persons))


OUTCOMES = ("accepted", "duplicate", "conflict", "erased")


def _events(home: Runtime, given: Sequence[EventIn]) -> list[Event]:
    known = {*home.arms.behaviors, *home.live.undo}
    found = []
    for number, each in enumerate(given):
        person = each.person()
        if person is None:
            raise Problem(422, f"events.{number}: expected a user or a visitor, got none")
        if each.behavior not in known:
            names = ", ".join(sorted(known))
            raise Problem(
                422,
                f"events.{number}.behavior: expected one of {names}, got {each.behavior!r}",
            )
        time = None if each.timestamp is None else each.timestamp * 1000
        found.append(
            Event(
                each.item, each.behavior, each.user, each.visitor, time, each.event_id,
                each.recommendation_id,
            )
        )  # fmt: skip
    return found
