"""The OpenAPI description, made from the schemas that requests are checked by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import ProblemOut
from nmtr.serving.http.problems import TITLES, TYPE, answered

REF = "#/components/schemas/{model}"
ALWAYS = (401, 403, 421, 429, 500, 503)
ABOUT = """\
Recommendations that learn from several behaviours.

Send `Authorization: Bearer TOKEN` where the service asks for tokens. Ids are text of 1 to 256
characters; a numeric id is its decimal text. Times are milliseconds since 1970 UTC. Errors are
`application/problem+json`; 429 and 503 say in `Retry-After` when to come back.
"""


class Direct(APIRoute):
    """A route whose endpoint takes the request and gives the response, and nothing in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Awaitable[Response]] = self.endpoint

        async def handler(request: Request) -> Response:
            return await answered(endpoint, request)

        return handler


def query(kind: type[BaseModel]) -> dict[str, Any]:
    """The parameters of a query that `kind` checks."""
    schema = _schema(kind)
    needed = schema.get("required", ())
    found = []
    for name, each in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": name in needed}
        inner = _plain(each)
        if inner.get("type") == "string" and "contentMediaType" in inner:
            parameter["content"] = {"application/json": {"schema": inner["contentSchema"]}}
        else:
            parameter["schema"] = inner
        found.append(parameter)
    return {"parameters": found}


def path(name: str, about: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": 256}
    parameter = {"name": name, "in": "path", "required": True, "schema": schema}
    return {"parameters": [parameter | {"description": about}]}


def body(kinds: Sequence[type[BaseModel]], examples: Mapping[str, Any]) -> dict[str, Any]:
    """A body in JSON of one of these kinds."""
    schemas = [{"$ref": REF.format(model=each.__name__)} for each in kinds]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"schema": schema, "examples": named}}
    return {"requestBody": {"required": True, "content": content}}


def joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = [*found[name], *value] if name in found else value
    return found


def answers(kind: type[BaseModel], *problems: int, example: Any = None) -> dict[int | str, Any]:
    """The responses of a route: one that succeeds, and problems."""
    content: dict[str, Any] = {}
    if example is not None:
        content = {"application/json": {"example": example}}
    found: dict[int | str, Any] = {200: {"model": kind, "description": "Done", "content": content}}
    schema = {"$ref": REF.format(model=ProblemOut.__name__)}
    for status in sorted({*problems, *ALWAYS}):
        found[status] = {"description": TITLES[status], "content": {TYPE: {"schema": schema}}}
    return found


def describe(
    app: FastAPI, kinds: Sequence[type[BaseModel]], *, guarded: bool
) -> Callable[[], dict[str, Any]]:
    """Makes the description once; kinds: of bodies; guarded: whether tokens are asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=ABOUT, routes=app.routes
            )
            known = made.setdefault("components", {}).setdefault("schemas", {})
            every: list[type[BaseModel]] = [ProblemOut, *kinds]
            for kind in every:
                schema = _schema(kind)
                known.update(schema.pop("$defs", {}))
                known[kind.__name__] = schema
            if guarded:
                bearer = {"type": "http", "scheme": "bearer"}
                made["components"]["securitySchemes"] = {"token": bearer}
                for place, methods in made["paths"].items():
                    for operation in methods.values():
                        if place not in ("/healthz", "/readyz"):
                            operation["security"] = [{"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    return openapi


def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema(by_alias=True, ref_template=REF)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of what may be left out, less the null that a query cannot hold."""
    kinds = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**kinds[0], **rest}
