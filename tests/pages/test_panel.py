"""Scales and panels put values where they belong."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.pages.charts import Bar, Reach, bars, columns, curves, intervals
from nmtr.pages.panel import Panel, Scale, short

Numbers = st.lists(st.floats(-1e12, 1e12), max_size=20)


@settings(max_examples=60, deadline=None)
@given(Numbers)
def test_a_scale_holds_zero_and_its_values_and_has_round_ticks_in_order(
    values: list[float],
) -> None:
    scale = Scale.over(values)
    slack = 1e-8 * (scale.high - scale.low)
    assert all(scale.low - slack <= each <= scale.high + slack for each in [0.0, *values])
    ticks = [each for each, _ in scale.ticks()]
    assert 1 <= len(ticks) <= 14
    assert ticks == sorted(set(ticks))
    assert all(0 <= scale.place(each) <= 1 for each in values)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_a_log_scale_ends_at_powers_of_ten(values: list[float]) -> None:
    scale = Scale.over(values, log=True)
    assert scale.low <= min(values) * 1.000001
    assert scale.high >= max(values) * 0.999999
    for end in (scale.low, scale.high):
        assert math.log10(end) == pytest.approx(round(math.log10(end)))


def test_places_by_hand() -> None:
    assert Scale(0, 4).place(1) == 0.25
    assert Scale(0.01, 1, log=True).place(0.1) == pytest.approx(0.5)
    assert Scale(0, 1).place(7) == 1
    assert [name for _, name in Scale(0, 0.4).ticks()] == ["0.0", "0.1", "0.2", "0.3", "0.4"]
    assert [name for _, name in Scale(0.9, 3.1, whole=True).ticks()] == ["1", "2", "3"]
    assert [name for _, name in Scale(0.6, 1.4, whole=True).ticks()] == ["1"]
    assert [name for _, name in Scale(0.001, 1, log=True).ticks()] == ["0.001", "0.01", "0.1", "1"]


@pytest.mark.parametrize(
    ("value", "told"), [(1_234_567, "1.23 M"), (35_000, "35 k"), (12, "12"), (0.01234, "0.0123")]
)
def test_numbers_in_few_letters(value: float, told: str) -> None:
    assert short(value) == told


def test_charts_are_well_formed_whatever_they_are_called() -> None:
    name = "<b>\"&'</b>"
    made = [
        curves(name, {name: [(1, 0.5), (2, 0.7)]}, xlabel=name, levels=[0.3], chosen=2),
        curves(name, {name: [(1, 0.5)]}, xlabel=name),
        curves(name, {}, xlabel=name),
        intervals(name, [name, "b"], {name: [Reach(0.5, 0.4, 0.6), None]}),
        columns(name, [name], {name: [3.0], "other": [0.0]}, xlabel=name),
        bars(name, [Bar(name, 3, 1, name), Bar("none", 0, 0, "")]),
        bars(name, []),
    ]
    for svg in made:
        tree = ElementTree.fromstring(svg)
        assert tree.attrib["role"] == "img"
        assert tree.attrib["aria-label"].startswith(name)


def test_a_mark_stands_where_its_value_is() -> None:
    panel = Panel("p", Scale(0, 10), Scale(0, 1))
    assert panel.at(0, 0)[1] - panel.at(0, 1)[1] > 100
    left, right = panel.at(0, 0)[0], panel.at(10, 0)[0]
    assert panel.at(5, 0)[0] == pytest.approx((left + right) / 2)
