"""The application: a runtime behind its routes, in an envelope."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nmtr import __version__
from nmtr.serving.http import asked
from nmtr.serving.http.envelope import Envelope
from nmtr.serving.http.openapi import Direct, describe
from nmtr.serving.http.problems import TITLES, Problem, answered
from nmtr.serving.http.routes import (
    docs,
    events,
    items,
    operations,
    page,
    people,
    recommendations,
    report,
    stock,
)
from nmtr.serving.http.runtime import Runtime

ROUTERS = tuple(
    each.router
    for each in (recommendations, events, items, people, stock, report, operations, docs, page)
)
BODIES = (
    asked.RecommendIn, asked.EventIn, asked.EventsIn, asked.IdentityIn, asked.StockIn,
    asked.StockChangeIn, asked.RulesIn, asked.ExplainIn,
)  # fmt: skip
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def create_app(runtime: Runtime) -> ASGIApp:
    """The service as an ASGI application; the runtime is closed when it ends."""
    options = runtime.options
    return Envelope(
        Shortcut(_fastapi(runtime)),
        metrics=runtime.metrics,
        tokens=runtime.tokens,
        rate=options.rate,
        max_body=options.max_body,
        timeout=options.timeout,
        hosts=(*LOCAL, options.host),
    )


class Shortcut:
    """Takes requests of a path without parameters straight to their endpoint.

    What FastAPI does between, which these endpoints need none of, costs more than an answer.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._ways = {
            (method, route.path): route
            for router in ROUTERS
            for route in router.routes
            if isinstance(route, Direct) and "{" not in route.path
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._ways.get((scope["method"], scope["path"])) if "method" in scope else None
        if way is None:
            await self.app(scope, receive, send)
            return
        scope["app"], scope["route"] = self.app, way
        response = await answered(way.endpoint, Request(scope, receive, send))
        await response(scope, receive, send)


def _fastapi(runtime: Runtime) -> FastAPI:

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        runtime.close()

    app = FastAPI(
        title="nmtr", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.runtime = runtime
    for each in ROUTERS:
        app.include_router(each)
    app.openapi = describe(app, BODIES, guarded=bool(runtime.tokens))  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, _refused)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """What the router says, as the routes say it."""
    assert isinstance(error, HTTPException)
    status = error.status_code if error.status_code in TITLES else 400
    words = {404: "there is nothing at this path; see /openapi.json", 405: "see the Allow header"}
    return Problem(status, words.get(status, str(error.detail)), headers=error.headers).response()
