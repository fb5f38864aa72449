"""The types that a user's code meets: mypy --strict reads the first half, as it reads all tests.

A `type: ignore` that is not needed is an error there, so what is wrong below is known to be told.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, assert_type

import polars as pl
import pytest

import nmtr
from nmtr import NMTR, Interactions, ReadOptions, UsageError, interactions, load
from nmtr.evaluation.significance import Difference, difference
from nmtr.models import names
from nmtr.serving.recommender import Recommender
from nmtr.training.run import Run, open_run


def a_user_trains(events: pl.DataFrame, folder: Path) -> pl.DataFrame:
    options = ReadOptions(user="visitor", behaviors=("view", "buy"))
    data = interactions(events, behaviors=["view", "buy"], options=options)
    assert_type(data, Interactions)
    data.save(folder / "data", force=True)
    model = NMTR(unit="gmf", seed=7).fit(load(folder / "data"))
    assert_type(model, NMTR)
    model.save(str(folder / "model"))
    return NMTR.load(folder / "model").recommend(["alice", 7], k=3)


def a_user_goes_on_from_a_run(folder: Path) -> pl.DataFrame:
    run = open_run(folder)
    assert_type(run, Run)
    assert_type(names(), list[str])
    try:
        return Recommender.of(run).recommend(run.data.users.ids, k=10)
    except UsageError as error:
        assert_type(error.exit_code, int)
        raise


def a_user_compares(one: pl.Series, other: pl.Series) -> float:
    found = difference(one.to_numpy(), other.to_numpy())
    assert_type(found, Difference)
    return found.permutation


def a_user_errs(data: Interactions) -> None:
    NMTR().fit("a folder")  # type: ignore[arg-type]
    load(7)  # type: ignore[arg-type]
    data.behaviors.append("x")  # type: ignore[attr-defined]
    interactions({}, ["buy"], holdout=0.9)  # type: ignore[arg-type]


def public() -> list[tuple[str, Any]]:
    """The functions of the front, and the methods of its classes that are meant to be called."""
    found: list[tuple[str, Any]] = []
    for name in nmtr.__all__:
        each = getattr(nmtr, name)
        if inspect.isfunction(each):
            found.append((name, each))
            continue
        for method, body in vars(each).items():
            call = body.__func__ if isinstance(body, classmethod | staticmethod) else body
            call = call.fget if isinstance(call, property) else call
            if inspect.isfunction(call) and not method.startswith("_"):
                found.append((f"{name}.{method}", call))
    return found


@pytest.mark.parametrize(("name", "call"), public(), ids=[name for name, _ in public()])
def test_what_is_public_says_its_types_and_what_it_does(name: str, call: Any) -> None:
    signature = inspect.signature(call)
    untyped = [
        each.name
        for each in signature.parameters.values()
        if each.annotation is each.empty and each.name not in ("self", "cls")
    ]
    assert untyped == []
    assert signature.return_annotation is not signature.empty


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(nmtr.__file__).parent / "py.typed").exists()
