"""What every request passes through: who may, how much, how long; and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nmtr.serving.http.limits import Buckets
from nmtr.serving.http.metrics import Metrics
from nmtr.serving.http.problems import SOON, Problem, explained
from nmtr.serving.http.tokens import Caller, Tokens

log = logging.getLogger("nmtr.serve")
OPEN = ("/healthz", "/readyz")  # for who asks whether the service is there
ASKS = ("GET", "HEAD", "OPTIONS")
READS = (  # with POST too
    "/v1/recommendations", "/v1/explain", "/page/like", "/page/user", "/page/visit", "/page/reason",
)  # fmt: skip
SHELLS = ("/", "/visit", "/model", "/experiment", "/health")  # hold nothing that is anybody's
STATIC = "/static/"
SLOW = ("/v1/users/", "/v1/reload", "/v1/report/")  # may take SLOWER times as long
SLOWER = 12
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' https: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
}
RAW = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Envelope:
    """The outermost layer, as plain ASGI: one that buffers would cost more than the answers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        tokens: Tokens,
        rate: float,
        max_body: int,
        timeout: float,
        hosts: Iterable[str] = (),
    ) -> None:
        """hosts: names by which alone the service may be asked, where there are no tokens."""
        self.app, self.metrics, self.tokens = app, metrics, tokens
        self.buckets, self.max_body, self.timeout = Buckets(rate), max_body, timeout
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                rest = [each for each in RAW if each[0] not in given]
                message["headers"] = [*message["headers"], *rest]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self._guarded(scope, receive, sending)
        except Exception as error:
            if status:  # half an answer cannot be taken back
                raise
            await explained(error).response()(scope, receive, sending)
        finally:
            self.metrics.in_flight.dec()
            self._tell(scope, status, time.perf_counter() - begun)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], dict(scope["headers"])
        if path not in OPEN:
            self._admit(scope, headers)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.max_body:
            raise self._too_large()
        limit = self.timeout * (SLOWER if path.startswith(SLOW) else 1)
        arrived = not _has_body(headers)
        size = 0

        async def receiving() -> Message:
            nonlocal size, arrived
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                arrived = not message.get("more_body", False)
                if size > self.max_body:
                    raise self._too_large()
            return message

        try:
            async with asyncio.timeout(limit) as timer:
                await self.app(scope, receiving, send)
        except TimeoutError as error:
            if not timer.expired():
                raise
            if arrived:
                words = f"no answer within {limit:g} s; what was sent may have been stored"
                raise Problem(503, words, headers=SOON) from error
            raise Problem(408, f"expected the whole body within {limit:g} s") from error

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raise the problem of who may not."""
        client = (scope.get("client") or ("unknown",))[0]
        caller = None
        if self.tokens:
            caller = self.tokens.caller(headers.get(b"authorization", b""))
        elif self.hosts and _name(headers.get(b"host", b"").decode("latin-1")) not in self.hosts:
            raise Problem(421, f"expected a Host among {', '.join(sorted(self.hosts))}")
        if wait := self.buckets.take(caller.name if caller else client):
            seconds = str(math.ceil(wait))
            words = f"expected at most {self.buckets.rate:g} requests a second from one client"
            raise Problem(429, words, headers={"Retry-After": seconds})
        if self.tokens and not (scope["path"] in SHELLS or scope["path"].startswith(STATIC)):
            self._authorise(scope, caller)

    def _authorise(self, scope: Scope, caller: Caller | None) -> None:
        if caller is None:
            words = "expected the header `Authorization: Bearer TOKEN` with a token that is known"
            raise Problem(401, words, headers={"WWW-Authenticate": "Bearer"})
        asks = scope["method"] in ASKS or scope["path"] in READS
        needed = "read" if asks else "write"
        if needed not in caller.scopes:
            raise Problem(403, f"this needs a token of the scope {needed}")

    def _too_large(self) -> Problem:
        return Problem(413, f"expected a body of at most {self.max_body:,} bytes; send it in parts")

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log, by the route's pattern: its real path may hold a person's id."""
        route = getattr(scope.get("route"), "path_format", None) or "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.answered(route, method, status, seconds)
        log.debug("%s %s %d %.1f ms", method, route, status, seconds * 1000)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _name(host: str) -> str:
    """A Host header without its port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def expect_json(request: Request) -> None:
    """Raise the problem of a body that is not said to be JSON: forms of other sites are not."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, f"expected Content-Type: application/json, got {kind or 'none'}")
