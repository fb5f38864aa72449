"""A person: what they did, and how they are forgotten."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import ErasureOut, UserOut
from nmtr.serving.http.engine import Question
from nmtr.serving.http.live import Person
from nmtr.serving.http.openapi import Direct, answers, path
from nmtr.serving.http.routes.common import answer, in_path, runtime
from nmtr.serving.http.runtime import Runtime

router = APIRouter(route_class=Direct, tags=["people"])
MOST = 1000
WHO = path("user", "a user's id, percent-encoded where it holds other than letters and digits")


@router.get(
    "/v1/users/{user:path}", summary="What a user did, by behaviour",
    responses=answers(UserOut, 422), openapi_extra=WHO,
)  # fmt: skip
async def get(request: Request) -> Response:
    """Items by behaviour, as the bundle and the store have them; of each the last thousand."""
    question = Question(Person("user", in_path("user", request)), 1)
    return answer(await history(runtime(request), question))


async def history(home: Runtime, question: Question) -> dict[str, Any]:
    """What the user of a question did."""
    home.expect_store()

    def work() -> dict[str, Any]:
        arm, asked = home.engine.about(question)
        found = arm.service.user(asked.user, asked.events)
        known = any(found.values())
        lists = {name: [str(each) for each in ids[-MOST:]] for name, ids in found.items()}
        user = question.person.id if question.person else ""
        return {"user": user, "arm": arm.name, "known": known, "behaviors": lists}

    return await home.run(work)


@router.delete(
    "/v1/users/{user:path}", summary="Erase a person", responses=answers(ErasureOut, 422),
    openapi_extra=WHO,
)  # fmt: skip
async def erase(request: Request) -> Response:
    """Delete all that is stored of a user and the visitors merged into them, for good.

    Later events about them are refused. A repeat gives the same receipt. Bundles and exports made
    before must be retired by the deadline.
    """
    user, home = in_path("user", request), runtime(request)
    home.exposures.flush()
    receipt = await home.run(lambda: home.store.erase(user))
    home.live.any_erased = True
    home.live.forget_all()
    times = {"at": receipt.at // 1000, "deadline": receipt.deadline // 1000}
    return answer({**receipt._asdict(), **times})
