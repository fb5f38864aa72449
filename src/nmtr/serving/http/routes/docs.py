"""The OpenAPI description as a page to read: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.openapi import Direct

router = APIRouter(route_class=Direct, include_in_schema=False)
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>nmtr: the HTTP service</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body>"""


@router.get("/docs")
async def docs(request: Request) -> Response:
    page = "\n".join(_page(request.app.openapi()))
    return Response(page, media_type="text/html")


def _page(made: Mapping[str, Any]) -> Iterator[str]:
    yield HEAD
    yield f"<h1>{escape(made['info']['title'])} {escape(made['info']['version'])}</h1>"
    for each in made["info"]["description"].strip().split("\n\n"):
        yield f"<p>{escape(each)}</p>"
    yield '<p>For programs: <a href="openapi.json">openapi.json</a></p>'
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            about = operation.get("description", "")
            yield f"<p>{escape(operation['summary'])}. {escape(about)}</p>"
            yield from _parameters(operation)
            yield from _body(operation)
            yield from _answers(operation)
    yield "<h2>Schemas</h2>"
    for name, schema in made["components"]["schemas"].items():
        yield f"<details><summary>{escape(name)}</summary>{_json(schema)}</details>"
    yield "</body></html>"


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    rows = operation.get("parameters", ())
    if rows:
        yield "<table><tr><th>parameter</th><th>in</th><th>what</th></tr>"
    for each in rows:
        schema = each.get("schema") or each["content"]["application/json"]["schema"]
        about = escape(each.get("description", ""))
        name = escape(each["name"]) + (" (needed)" if each["required"] else "")
        yield f"<tr><td>{name}</td><td>{each['in']}</td><td>{about}{_json(schema)}</td></tr>"
    if rows:
        yield "</table>"


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        yield f"<p>Body:</p>{_json(content['schema'])}"
        for name, example in content["examples"].items():
            yield f"<p>For example, {escape(name)}:</p>{_json(example['value'])}"


def _answers(operation: Mapping[str, Any]) -> Iterator[str]:
    done = operation["responses"]["200"]["content"]
    for kind, each in done.items():
        yield f"<p>Answers {escape(kind)}:</p>{_json(each.get('example', each['schema']))}"
    others = (
        f"{status} {escape(each['description'])}"
        for status, each in operation["responses"].items()
        if status != "200"
    )
    yield f"<p>Or {'; '.join(others)}.</p>"


def _json(value: Any) -> str:
    return f"<pre>{escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())}</pre>"
