"""For operators: is it there, is it ready, how is it doing, what does it serve."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from nmtr.errors import NmtrError
from nmtr.serving.http.answered import HealthOut, ModelOut, ReadyOut, ReloadOut
from nmtr.serving.http.arms import Arm
from nmtr.serving.http.openapi import Direct, answers
from nmtr.serving.http.problems import Problem
from nmtr.serving.http.routes.common import answer, runtime
from nmtr.serving.http.runtime import Runtime

router = APIRouter(route_class=Direct, tags=["operations"])
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Figures", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/healthz", summary="The process answers", responses=answers(HealthOut))
async def health(_: Request) -> Response:
    return answer({"status": "ok"})


@router.get("/readyz", summary="The store and the bundles can be used", responses=answers(ReadyOut))
async def ready(request: Request) -> Response:
    home = runtime(request)
    home.expect_store()
    return answer({"status": "ready", "arms": {each.name: each.model for each in home.arms.arms}})


@router.get(
    "/metrics", summary="Figures for Prometheus", response_class=Response,
    responses={**answers(HealthOut), **TEXT},
)  # fmt: skip
async def metrics(request: Request) -> Response:
    return Response(runtime(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/model", summary="The model card of each arm", responses=answers(ModelOut))
async def model(request: Request) -> Response:
    return answer(await cards(runtime(request)))


async def cards(home: Runtime) -> dict[str, Any]:
    arms = home.arms
    found = await home.run(lambda: [_card(each) for each in arms.arms])
    share = home.options.exploration
    return {"experiment": arms.experiment, "exploration": share, "arms": found}


@router.post(
    "/v1/reload", summary="Load the bundles' files anew", responses=answers(ReloadOut, 409)
)
async def reload(request: Request) -> Response:
    """Serve what the files hold now. A file that is refused leaves all as it was."""
    home = runtime(request)
    try:
        changed = await home.run(home.reload)
    except NmtrError as error:
        raise Problem(409, f"the bundles that were served go on: {error}") from error
    return answer({"changed": changed, "arms": {each.name: each.model for each in home.arms.arms}})


def _card(arm: Arm) -> dict[str, Any]:
    bundle, manifest = arm.bundle, arm.bundle.manifest
    reports = bundle.reports
    epochs = manifest.get("epochs")
    return {
        "name": arm.name,
        "share": arm.share,
        "fingerprint": arm.model,
        "model": manifest["model"],
        "created": manifest["created"],
        "behaviors": list(bundle.data.behaviors),
        "users": manifest["users"],
        "items": manifest["items"],
        "protocol": manifest["protocol"],
        "epochs": epochs if isinstance(epochs, int) else None,
        "calibrated": bundle.calibration is not None,
        "catalogue": [] if bundle.catalogue is None else bundle.catalogue.columns,
        "reports": reports.get("reports", {}),
        "audit": reports.get("audit"),
    }
