"""What docs/stability.md calls public, as it stands in the code.

    python tests/promised.py > tests/fixtures/promised.json     when a major or minor is released

test_stability.py holds what is there now against what was promised.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI

import nmtr
from nmtr.cli import COMMANDS
from nmtr.data import manifest
from nmtr.data.split import PROTOCOLS
from nmtr.evaluation.metrics import CUTOFFS, METRICS
from nmtr.models import names, option_names
from nmtr.serving import bundle
from nmtr.serving.http.app import BODIES, ROUTERS
from nmtr.serving.http.openapi import describe
from nmtr.serving.recommender import Recommender
from nmtr.training.settings import general_names

Names = dict[str, list[str]]
CLASSES = ("NMTR", "Interactions", "Recommender")


def promised() -> dict[str, Any]:
    """Every public name: what may be given, and what must be."""
    return {
        "version": nmtr.__version__,
        "commands": {name: _given(each) for name, each in _commands().items()},
        "python": {name: _given(each) for name, each in _callables()},
        "http": _http(),
        "settings": {"": general_names()} | {name: list(option_names(name)) for name in names()},
        "protocols": list(PROTOCOLS),
        "metrics": [f"{name}@{k}" for name in METRICS for k in CUTOFFS],
        "formats": {
            bundle.FORMAT: [bundle.SCHEMA],
            manifest.FORMAT: [manifest.SCHEMA, manifest.SHARDED],
        },
    }


def _commands() -> dict[str, Callable[..., Any]]:
    places = {name: place for name, (place, _) in COMMANDS.items()}
    places["data get"] = "nmtr.cli.logs:get"
    found = {}
    for name, place in places.items():
        module, function = place.split(":")
        found[name] = getattr(importlib.import_module(module), function)
    return found


def _callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions, classes and their public methods; errors need no arguments of ours."""
    for name in [*nmtr.__all__, "Recommender"]:
        each = Recommender if name == "Recommender" else getattr(nmtr, name)
        if not (isinstance(each, type) and issubclass(each, Exception)):
            yield name, each
        for method in sorted(vars(each)) if name in CLASSES else ():
            if not method.startswith("_") and callable(getattr(each, method)):
                yield f"{name}.{method}", getattr(each, method)


def _given(each: Callable[..., Any]) -> Names:
    """takes: the names of what it takes; needs: those without a default."""
    asked = [one for one in inspect.signature(each).parameters.values() if one.name != "self"]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one for one in asked if one.default is one.empty and one.kind not in several]
    return {"takes": [one.name for one in asked], "needs": [one.name for one in needed]}


def _http() -> dict[str, Names]:
    """Of each way in: what it takes, what it needs, and what its answer holds."""
    app = FastAPI(title="nmtr", version=nmtr.__version__)
    for each in ROUTERS:
        app.include_router(each)
    described = describe(app, BODIES, guarded=False)()
    schemas = described["components"]["schemas"]
    found = {}
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            parameters = about.get("parameters", [])
            body = _schema(about.get("requestBody", {}))
            takes = {each["name"] for each in parameters} | set(_names(body, schemas))
            needs = {each["name"] for each in parameters if each["required"]}
            answer = _schema(about["responses"].get("200", {}))
            found[f"{method.upper()} {path}"] = {
                "takes": sorted(takes),
                "needs": sorted(needs | set(_needed(body, schemas))),
                "answers": sorted(_names(answer, schemas)),
            }
    return found


def _schema(about: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = about.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _opened(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema's alternatives, each looked up."""
    if "$ref" in schema:
        return _opened(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    return [one for each in choices for one in _opened(each, schemas)] or [schema]


def _names(schema: dict[str, Any], schemas: dict[str, Any], deep: int = 5) -> Iterator[str]:
    """The names in a document of this schema, those within others after a dot."""
    for each in _opened(schema, schemas):
        if "items" in each:
            yield from _names(each["items"], schemas, deep)
        for name, inner in each.get("properties", {}).items():
            yield name
            if deep:
                yield from (f"{name}.{one}" for one in _names(inner, schemas, deep - 1))


def _needed(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """The names that a document must have; of alternatives, those that all need."""
    each = [set(one.get("required", ())) for one in _opened(schema, schemas)]
    yield from set.intersection(*each)


if __name__ == "__main__":
    print(json.dumps(promised(), indent=1))
