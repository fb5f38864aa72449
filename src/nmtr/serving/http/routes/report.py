"""The report of the experiment between the arms."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.ab import outcomes
from nmtr.serving.ab.report import Compared, now, report
from nmtr.serving.http.answered import ReportOut
from nmtr.serving.http.asked import ReportQuery
from nmtr.serving.http.openapi import Direct, answers, query
from nmtr.serving.http.problems import Overloaded, Problem
from nmtr.serving.http.routes.common import answer, in_query, runtime
from nmtr.serving.http.runtime import Runtime

router = APIRouter(route_class=Direct, tags=["experiment"])
_one_at_a_time = threading.Lock()  # it reads all of the store


@router.get(
    "/v1/report/ab", summary="Conversion by arm", responses=answers(ReportOut, 422),
    openapi_extra=query(ReportQuery),
)  # fmt: skip
async def ab(request: Request) -> Response:
    """Intervals and tests that stay valid however often one looks.

    behavior: what counts as conversion, by default the target; since: lists shown before do not
    count; window_hours: how long after a person's first list it may happen.
    """
    return answer(await compared(runtime(request), in_query(ReportQuery, request)))


async def compared(home: Runtime, asked: ReportQuery) -> dict[str, Any]:
    """The report; raises Overloaded while another is being made."""
    home.expect_store()
    arms = home.arms
    behavior = asked.behavior or arms.arms[0].service.behaviors[-1]
    if behavior not in arms.behaviors:
        names = ", ".join(arms.behaviors)
        raise Problem(422, f"behavior: expected one of {names}, got {behavior!r}")
    sides = [Compared(each.name, each.label, each.share) for each in arms.arms]

    def work() -> dict[str, Any]:
        if not _one_at_a_time.acquire(blocking=False):
            raise Overloaded("another report is being made")
        try:
            home.exposures.settle()
            labels = [each.label for each in sides]
            found = outcomes.read(home.store, labels, behavior, asked.since)
        finally:
            _one_at_a_time.release()
        made = report(found, sides, hours=asked.window_hours, alpha=asked.alpha, now=now())
        head = {"experiment": arms.experiment, "behavior": behavior, "since": asked.since}
        return {**head, "exploration": home.options.exploration, **made}

    return await home.run(work)
