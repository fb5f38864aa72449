"""What the routes share: their runtime, checked input, JSON output."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from nmtr.errors import DataError
from nmtr.serving.http.envelope import expect_json
from nmtr.serving.http.problems import Problem
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.store.records import check_text

B = TypeVar("B", bound=BaseModel)
MOST_FORM = 2**20  # bytes
LARGE = 64 * 2**10  # bytes of a body, above which it is read in a thread


def runtime(request: Request) -> Runtime:
    found: Runtime = request.app.state.runtime
    return found


def in_query(kind: type[B], request: Request) -> B:
    """The query, checked; a name that stands in it twice is refused."""
    return kind.model_validate(_fields(request.scope["query_string"], "the query"))


async def in_form(kind: type[B], request: Request) -> B:
    """The fields of a form, checked."""
    found = await request.body()
    if len(found) > MOST_FORM:
        raise Problem(413, f"expected a form of at most {MOST_FORM:,} bytes")
    return kind.model_validate(_fields(found, "the form"))


def _fields(text: bytes, where: str) -> dict[str, str]:
    given = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    found = dict(given)
    if len(found) < len(given):
        raise Problem(422, f"expected each of {', '.join(found)} once in {where}")
    return found


async def in_body(kind: type[B], request: Request) -> B:
    """The body, checked; large ones in a thread, so that nobody else waits for that."""
    expect_json(request)
    found = await request.body()
    if len(found) <= LARGE:
        return kind.model_validate_json(found)
    return await runtime(request).run(lambda: kind.model_validate_json(found))


def in_path(name: str, request: Request) -> str:
    """An id of the path."""
    value: str = request.path_params[name]
    try:
        check_text(name, value)
    except DataError as error:
        raise Problem(422, str(error)) from None
    return value


def answer(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
