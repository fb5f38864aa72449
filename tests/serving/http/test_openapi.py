"""The description is kept: requests made up from it, and against it, are answered as it says."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from nmtr.serving.http.tokens import read_tokens

Serve = Callable[..., TestClient]
TOKEN = "t" * 20
EXAMPLES = int(os.environ.get("NMTR_EXAMPLES", "15"))
CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.ignored_auth,
)


@pytest.fixture
def described(serve: Serve) -> Any:
    client = serve(tokens=read_tokens("", {"NMTR_TOKENS": f"read+write:{TOKEN}"}), timeout=60.0)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return schemathesis.openapi.from_asgi("/openapi.json", client.app, headers=headers)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_one_that_is_described(described: Any, mode: GenerationMode) -> None:
    """Requests that keep to the description, and such as break it."""
    tried = 0
    for found in described.get_all_operations():
        operation = found.ok()
        stated = described.raw_schema["paths"][operation.path][operation.method]
        if mode is GenerationMode.NEGATIVE and not {"parameters", "requestBody"} & stated.keys():
            continue  # nothing can be wrong

        @settings(
            max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def keeps(case: Any) -> None:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            case.call_and_validate(checks=CHECKS, headers=headers)

        keeps()
        tried += 1
    assert tried >= 10


def test_the_page_to_read_shows_every_way_in_and_an_example_of_each_body(
    client: TestClient,
) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    made = client.get("/openapi.json").json()
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in page.text
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                assert content["examples"], path
    assert "<script" not in page.text


def test_the_examples_are_ones_that_are_accepted(serve: Serve) -> None:
    client = serve()
    made = client.get("/openapi.json").json()
    tried = 0
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            for example in content.get("application/json", {}).get("examples", {}).values():
                answer = client.request(method, path, json=example["value"])
                about = (path, answer.text)
                assert answer.status_code == 200 or "sku-" in answer.text, about
                tried += 1
    assert tried >= 8
