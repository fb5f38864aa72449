"""What a release promised is still there, and asks for no more: docs/stability.md, held."""

from __future__ import annotations

import importlib.util
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

HERE = Path(__file__).parent
PROMISED: dict[str, Any] = json.loads((HERE / "fixtures" / "promised.json").read_text("utf-8"))


def now() -> dict[str, Any]:
    """What promised.py finds in the code."""
    spec = importlib.util.spec_from_file_location("promised", HERE / "promised.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    made: dict[str, Any] = json.loads(json.dumps(found.promised()))
    return made


FOUND = now()


def broken(before: Any, after: Any, where: str = "") -> list[str]:
    """Names that are gone, and those that are newly needed; more is no harm."""
    if isinstance(before, dict):
        return [
            each for name, inner in before.items()
            for each in (
                broken(inner, after[name], f"{where}/{name}") if name in after
                else [f"{where}/{name}"]
            )
        ]  # fmt: skip
    if where.endswith("/needs"):
        return [f"{where} {each}" for each in after if each not in before]
    return [f"{where} {each}" for each in before if each not in after]


@pytest.mark.parametrize("part", [each for each in PROMISED if each != "version"])
def test_what_was_promised_is_there(part: str) -> None:
    assert broken(PROMISED[part], FOUND[part]) == []


def test_it_was_promised_by_this_major_version() -> None:
    assert PROMISED["version"].split(".")[0] == FOUND["version"].split(".")[0]


def test_the_promise_covers_what_users_call() -> None:
    assert "epochs" in PROMISED["settings"][""]
    assert {"NMTR.fit", "NMTR.recommend", "interactions"} <= PROMISED["python"].keys()
    assert PROMISED["commands"]["train"]["needs"] == ["out"]
    assert "items.score" in PROMISED["http"]["GET /v1/recommendations"]["answers"]
    assert PROMISED["http"]["POST /v1/identities"]["needs"] == ["user", "visitor"]


def test_a_broken_promise_is_seen() -> None:
    after = deepcopy(FOUND)
    del after["commands"]["compare"]
    after["commands"]["train"]["takes"].remove("budget")
    after["commands"]["audit"]["needs"].append("why")
    after["http"]["POST /v1/events"]["answers"].remove("accepted")
    after["python"]["NMTR.fit"]["takes"].append("weights")  # with a default, so no harm
    assert broken(FOUND, after) == [
        "/commands/audit/needs why",
        "/commands/train/takes budget",
        "/commands/compare",
        "/http/POST /v1/events/answers accepted",
    ]
