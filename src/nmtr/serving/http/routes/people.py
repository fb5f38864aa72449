"""A person: what they did, and how they are forgotten."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import ErasureOut
from nmtr.serving.http.openapi import Direct, answers, path
from nmtr.serving.http.routes.common import answer, in_path, runtime

router = APIRouter(route_class=Direct, tags=["people"])
WHO = path("user", "a user's id, percent-encoded where it holds other than letters and digits")


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
