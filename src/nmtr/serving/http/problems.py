"""Errors as clients see them: application/problem+json (RFC 9457), never a stack trace."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from nmtr.errors import DamagedError, DataError, UnknownError, UsageError
from nmtr.serving.store import (
    BusyError,
    ErasedError,
    IdentityConflictError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

log = logging.getLogger("nmtr.serve")
TYPE = "application/problem+json"
SHOWN = 5  # faults of one body that are listed
TAGS = ("one event", "many")  # of the two bodies that events come in; nobody's name for a place
MOST = 2**63
KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
TITLES = {
    400: "Malformed request",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "The request took too long to arrive",
    409: "Conflict",
    410: "Erased",
    413: "The body is too large",
    415: "Expected JSON",
    421: "Another host is meant",
    422: "The request does not say what can be done",
    429: "Too many requests",
    500: "Something failed here",
    503: "Not at the moment",
}
SOON = {"Retry-After": "1"}


class Problem(Exception):  # noqa: N818  # the word of RFC 9457
    """What is answered instead of what was asked for.

    detail: what was expected, what came, what to do.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.more = status, detail, more
        self.headers = dict(headers or {})

    def response(self) -> Response:
        body = {"title": TITLES[self.status], "status": self.status, "detail": self.detail}
        return Response(
            orjson.dumps(body | self.more), self.status, headers=self.headers, media_type=TYPE
        )


class Overloaded(Problem):
    """More is waiting than can be done soon."""

    def __init__(self, what: str) -> None:
        super().__init__(503, f"{what}; try again in a moment", headers=SOON)


def problem_of(error: Exception) -> Problem | None:
    """What a client is told of an error; None for one that nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return invalid(error)
    if isinstance(error, UnknownError):
        return Problem(404, str(error))
    if isinstance(error, UsageError | DataError):
        return Problem(422, str(error))
    if isinstance(error, IdentityConflictError):
        return Problem(409, str(error))
    if isinstance(error, ErasedError):
        return Problem(410, str(error))
    if isinstance(error, BusyError):
        return Overloaded("the store is busy")
    for kind, words in STATES.items():
        if isinstance(error, kind):
            return Problem(503, words, headers={"Retry-After": "5"})
    return None


# In words of our own: the store's name its path or server, which are nobody else's business.
STATES: dict[type[Exception], str] = {
    StoreFullError: "the store's disk is full; nothing of this request was stored",
    StoreReadOnlyError: "the store can be read and not written; nothing was stored",
    StoreUnavailableError: "the store cannot be reached; it is tried again with every request",
    DamagedError: "the store is damaged; its operator must look at it",
    StoreError: "the store failed; what was sent may or may not be stored: repeat it with its ids",
}


def invalid(error: ValidationError) -> Problem:
    """What pydantic found wrong, each fault with its place; 400 where it is no JSON at all."""
    faults = [
        {"where": _place(each["loc"]), "what": _words(each)}
        for each in error.errors(include_url=False, include_context=False)
    ]
    if any(each["type"] == "json_invalid" for each in error.errors(include_context=False)):
        return Problem(400, f"the body is no JSON: {faults[0]['what']}")
    first = "; ".join(f"{each['where']}: {each['what']}" for each in faults[:SHOWN])
    return Problem(422, first, faults=faults[:SHOWN])


def _place(path: Sequence[int | str]) -> str:
    inner = path[1:] if path and path[0] in TAGS else path
    return ".".join(map(str, inner)) or "body"


def _words(fault: Mapping[str, Any]) -> str:
    """What was expected and what came, for the faults that clients make most; else pydantic's."""
    came = fault["input"]
    got = "nothing" if came is None else KINDS.get(type(came), "an object")
    if fault["type"] == "missing":
        return "expected, and not there"
    if fault["type"] == "extra_forbidden":
        return "no such name here"
    if fault["type"] == "string_type":
        short = type(came) is int and abs(came) < MOST  # longer ones Python will not write
        return f"expected text, got {got}" + (f'; write "{came}"' if short else "")
    if fault["type"] == "int_type":
        return f"expected a whole number, got {got}"
    words: str = fault["msg"]
    return words.removeprefix("Value error, ")


async def answered(
    endpoint: Callable[[Request], Awaitable[Response]], request: Request
) -> Response:
    """What an endpoint answers, or what is wrong; nothing that fails gets further than this."""
    try:
        return await endpoint(request)
    except Exception as error:
        return explained(error).response()


def explained(error: Exception) -> Problem:
    """What a client is told of any error; an unforeseen one is logged by its place.

    Not by its words, which may hold an id.
    """
    found = problem_of(error)
    if found is None:
        places = "".join(traceback.format_tb(error.__traceback__))
        log.error("unforeseen %s:\n%s", type(error).__name__, places)
        found = Problem(500, "this should not happen; the service's log says where it did")
    return found
