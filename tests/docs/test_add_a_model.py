"""The model of the page on adding one keeps the contract of every model."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nmtr.models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add-a-model.md"
CONTRACT = ROOT / "tests" / "models" / "test_model_contract.py"
NAME = "scaled-mf"


def checks() -> list[Callable[..., None]]:
    """What the contract test asks of each model."""
    spec = importlib.util.spec_from_file_location("contract", CONTRACT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [each for name, each in vars(module).items() if name.startswith("test_")]
    return [each for each in found if "name" in inspect.signature(each).parameters]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's file, on the path where models are looked for."""
    found = re.search(
        r'^```python title="src/nmtr/models/(\w+\.py)"\n(.*?)^```$',
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert found
    (tmp_path / found[1]).write_text(found[2], encoding="utf-8")
    monkeypatch.setattr(nmtr.models, "__path__", [*nmtr.models.__path__, str(tmp_path)])


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("check", checks(), ids=lambda check: check.__name__)
def test_the_page_s_model_keeps_the_contract(check: Callable[..., None], tmp_path: Path) -> None:
    assert NAME in nmtr.models.names()
    wanted = inspect.signature(check).parameters
    given: dict[str, Any] = {"name": NAME, "tmp_path": tmp_path}
    given = {each: given[each] for each in wanted if each in given}
    for r in [1, 2, 3, 4] if "r" in wanted else [None]:
        check(**given, **({} if r is None else {"r": r}))


def test_every_check_of_the_contract_is_made() -> None:
    assert len(checks()) >= 10
