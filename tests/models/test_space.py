"""What may be tuned is said as data, fits the options that it names, and widens as it should."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmtr.models import make, names
from nmtr.models.base import Shape
from nmtr.models.space import (
    Axis,
    Cases,
    Choice,
    Range,
    Side,
    Space,
    Weights,
    Whole,
    axes,
    edges,
    options,
    read,
)
from nmtr.training.settings import Settings, override
from nmtr.training.trainer import Training

BEHAVIORS = ("glance", "hold", "keep")
SHAPE = Shape(7, 11, BEHAVIORS)
UNTUNED = ["popularity", "replay"]
of_every_model = pytest.mark.parametrize("name", sorted(set(names()) - set(UNTUNED)))


def space_of(name: str, **given: Any) -> Space:
    found: Space = make(name, given, SHAPE).config.space()
    return found


def ends(axis: Axis) -> tuple[Any, ...]:
    return axis.values if isinstance(axis, Choice) else (axis.low, axis.high)


def test_only_what_counts_without_options_has_no_space() -> None:
    without = [name for name in names() if not hasattr(make(name, {}, SHAPE).config, "space")]
    assert without == UNTUNED


@of_every_model
def test_a_model_can_be_made_at_every_end_of_its_space(name: str) -> None:
    space = space_of(name)
    found = axes(space, BEHAVIORS)
    middle = {
        title: axis.at(0.5) if isinstance(axis, Range) else axis.values[0]
        for title, axis in found.items()
    }
    for title, axis in found.items():
        for value in ends(axis):
            chosen = options(space, BEHAVIORS, {**middle, title: value})
            settings = override(Settings(name), chosen)
            made = make(name, settings.options, SHAPE).config
            for option, each in chosen.items():
                known = settings.training if hasattr(settings.training, option) else made
                is_one = isinstance(getattr(known, option), tuple) and not isinstance(each, tuple)
                assert getattr(known, option) == ((each,) if is_one else each)


@of_every_model
def test_ends_widened_as_far_as_they_go_make_a_model_too(name: str) -> None:
    space = space_of(name)
    for title, entry in space.items():
        for side in ("low", "high"):
            if isinstance(entry, Range):
                wide = entry.widened(side).widened(side)
                value = wide.low if side == "low" else wide.high
                settings = override(Settings(name), entry.options(title, {title: value}))
                make(name, settings.options, SHAPE)


@of_every_model
def test_a_space_reads_back_the_values_that_made_the_options(name: str) -> None:
    space = space_of(name)
    found = axes(space, BEHAVIORS)
    for side in (0, -1):
        values = {title: ends(axis)[side] for title, axis in found.items()}
        settings = override(Settings(name), options(space, BEHAVIORS, values))
        model = make(name, settings.options, SHAPE)
        given = {each.name: getattr(model.config, each.name) for each in fields(model.config)}
        training = {each.name: getattr(settings.training, each.name) for each in fields(Training)}
        assert read(space, BEHAVIORS, given | training) == pytest.approx(values)


def test_an_mlp_that_starts_as_agreement_has_four_relus_a_dimension() -> None:
    tower = space_of("nmtr-mlp", embedding=8)["tower"]
    assert isinstance(tower, Cases)
    assert tower.cases["agreement"]["layers"] == (32,)
    assert "tower" not in space_of("nmtr-mlp", activation="tanh")
    assert not {"mlp_l2", "tower"} & set(space_of("nmtr-gmf"))


@pytest.mark.parametrize(
    ("axis", "value", "side"),
    [
        (Range(0.001, 1.0, log=True), 0.001 * 1000**0.019, "low"),
        (Range(0.001, 1.0, log=True), 0.001 * 1000**0.021, None),
        (Range(0.001, 1.0, log=True), 0.02, None),  # nearer to the low end but by logarithms
        (Range(0.001, 1.0, log=True), 0.0, "low"),
        (Range(0.001, 1.0, log=True), 7.0, "high"),
        (Range(0.001, 1.0), 0.02, "low"),
        (Range(0.0, 1.0, least=0.0, most=1.0), 0.0, None),
        (Range(0.0, 1.0, least=0.0, most=1.0), 1.0, None),
        (Range(0.0, 1.0, least=0.0), 1.0, "high"),
        (Whole(1, 8), 8, "high"),
        (Whole(1, 8), 7, None),
        (Whole(1, 8), 1, None),  # no count is below 1
        (Whole(16, 64, log=True), 16, "low"),
    ],
)
def test_an_edge_is_two_hundredths_of_the_range_s_own_scale(
    axis: Range, value: float, side: Side | None
) -> None:
    assert axis.edge(value) == side
    assert edges({"a": axis, "b": Choice((1, 2))}, {"a": value, "b": 1}) == (
        {"a": side} if side else {}
    )


@pytest.mark.parametrize(
    ("axis", "side", "wide"),
    [
        (Range(0.01, 1.0, log=True), "low", Range(0.0001, 1.0, log=True)),
        (Range(0.01, 1.0, log=True), "high", Range(0.01, 100.0, log=True)),
        (Range(1.0, 3.0), "high", Range(1.0, 5.0)),
        (Range(1.0, 3.0, most=4.0), "high", Range(1.0, 4.0, most=4.0)),
        (Range(0.01, 1.0, log=True, least=0.001), "low", Range(0.001, 1.0, True, 0.001)),
        (Whole(2, 8, log=True), "low", Whole(1, 8, log=True)),
        (Whole(512, 8192, log=True), "high", Whole(512, 131_072, log=True)),
    ],
)
def test_a_range_is_widened_by_its_own_width_up_to_its_bounds(
    axis: Range, side: Side, wide: Range
) -> None:
    assert axis.widened(side) == wide


@given(
    low=st.floats(1e-6, 1e3),
    times=st.floats(2, 1e4),
    log=st.booleans(),
    place=st.floats(0, 1),
    side=st.sampled_from(["low", "high"]),
)
def test_places_are_those_of_values_and_a_wider_range_holds_the_narrower(
    low: float, times: float, log: bool, place: float, side: Side
) -> None:
    axis = Range(low, low * times, log=log)
    value = axis.at(place)
    assert math.isclose(axis.place(value), place, abs_tol=0.02)
    wide = axis.widened(side)
    slack = 1.01  # ends have three digits
    assert wide.low <= axis.low * slack
    assert wide.high >= axis.high / slack
    assert wide.edge(value) != side or place <= 0.02 or place >= 0.98


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, 1.0, True)])
def test_a_range_of_nothing_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        Range(*wrong)
    with pytest.raises(ValueError, match="two values"):
        Choice((1,))


def test_weights_are_shares_of_the_target_s() -> None:
    weights = Weights(0.1, 10.0, empty=0.5)
    assert list(weights.axes("w", BEHAVIORS)) == ["w[glance]", "w[hold]"]
    values = {"w[glance]": 0.25, "w[hold]": 2.0}
    assert weights.options("w", values) == {"w": (0.25, 2.0, 1.0)}
    assert weights.read("w", {"w": (1.0, 8.0, 4.0)}, BEHAVIORS) == values
    assert weights.read("w", {"w": ()}, BEHAVIORS) == {"w[glance]": 0.25, "w[hold]": 0.5}
    assert replace(weights, empty=0.0).read("w", {"w": ()}, BEHAVIORS) == {
        "w[glance]": 0.0,
        "w[hold]": 0.0,
    }
    assert weights.read("w", {"w": (1.0, 1.0, 0.0)}, BEHAVIORS) == {}
    assert weights.axes("w", BEHAVIORS[-1:]) == weights.options("w", {}) == {}


def test_cases_that_nothing_matches_have_no_value() -> None:
    cases = Cases({"a": {"x": (1, 2), "y": 3}, "b": {"x": (4,), "y": 5}})
    assert cases.read("c", {"x": [1, 2], "y": 3}, BEHAVIORS) == {"c": "a"}
    assert cases.read("c", {"x": (1, 2), "y": 5}, BEHAVIORS) == {}
    assert cases.options("c", {"c": "b"}) == {"x": (4,), "y": 5}
    assert cases.sets("c") == {"x", "y"}
