"""What cells found, as values, differences and verdicts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nmtr.data.interactions import Interactions
from nmtr.evaluation.groups import Group
from nmtr.experiments import outcomes
from nmtr.experiments.claims import (
    FAILS,
    HOLDS,
    UNKNOWN,
    Context,
    _joint,
    _new,
    size_verdict,
    together,
    verdict_of,
)
from nmtr.experiments.figure2 import falls
from nmtr.experiments.outcomes import Outcomes, value_of
from nmtr.experiments.plan import SENSITIVE, Asked, plan
from nmtr.experiments.sensitivity import _lines
from nmtr.experiments.table3 import parts_of, vectors


def test_rows_that_differ_by_one_thing_have_no_other_settings(
    tmp_path: Path, data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "open_cell", lambda out, cell, data: {})
    cells = plan(Asked(data, "beibei"), "table2")  # two of NMTR-GMF: discovery has a preset too
    whole = Outcomes(tmp_path, Asked(data, "beibei"), cells)
    protocols = {each.settings.protocol for each in cells if each.row == "nmtr-gmf"}
    assert protocols == {"as-published", "discovery"}
    assert [each.settings.protocol for each in whole.of("nmtr-gmf", protocol="discovery")]
    assert not whole.alike.of("nmtr-gmf", protocol="discovery")
    assert whole.alike.of("nmtr-gmf") == whole.of("nmtr-gmf")


def test_parts_variations_and_claims_of_them_are_told_by_like_settings(
    tmp_path: Path, data: Interactions
) -> None:
    """Each is asked of outcomes that know nothing but what is alike."""
    whole = Outcomes(tmp_path, Asked(data), [])
    runs = [np.array([0.5, 1.0])]
    known = SimpleNamespace(vectors=lambda *_, **__: runs, value=lambda *_, **__: value_of(runs))
    whole.__dict__["alike"] = known
    everything = parts_of(data.behaviors)[-1]
    assert vectors(whole, SENSITIVE, everything, "discovery", "hr@100") == runs
    assert {each["ours"] for each in _lines(whole, "discovery")} == {0.75}
    context = Context(whole, "discovery")
    verdicts = {claim: numbers for claim, _, numbers in (*_joint(context), *_new(context))}
    assert len(verdicts) == 3
    assert not any("not trained" in each for each in verdicts.values())


def test_verdicts() -> None:
    assert verdict_of(0.01, 0.1) == HOLDS
    assert verdict_of(0.01, -0.1) == FAILS
    assert verdict_of(0.2, 0.1) == UNKNOWN
    assert size_verdict(0.10, 0.05, 0.15, 0.09) == HOLDS
    assert size_verdict(0.05, 0.01, 0.08, 0.09) == FAILS
    assert size_verdict(0.08, 0.01, 0.12, 0.09) == UNKNOWN
    assert together([(HOLDS, "a"), (HOLDS, "b")]) == (HOLDS, "a; b")
    assert together([(HOLDS, "a"), (FAILS, "b")])[0] == FAILS
    assert together([(HOLDS, "a"), (UNKNOWN, "b")])[0] == UNKNOWN


def test_intervals_of_averaged_seeds_agree_with_those_of_the_reports() -> None:
    rng = np.random.default_rng(3)
    run = (rng.random(2000) < 0.3).astype(np.float64)
    one, two = value_of([run]), value_of([run, run])
    assert two.mean == one.mean == run.mean()
    assert two.seeds == (one.mean, one.mean)
    assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=0.003)
    assert one.high - one.low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 2000), rel=0.1)


def test_falls_from_the_last_group_to_the_first() -> None:
    values = np.concatenate([np.full(50, 0.2), np.full(70, 0.5)])
    groups = [Group(1, 1, np.arange(50)), Group(2, 9, np.arange(50, 120))]
    found = falls({"a": values, "b": np.ones(120)}, groups, resamples=20)
    assert found["a"] == pytest.approx(np.full(21, 0.6))
    assert found["b"] == pytest.approx(np.zeros(21))


def test_a_damaged_paired_test_is_made_again(tmp_path: Path, data: Interactions) -> None:
    found = Outcomes(tmp_path, Asked(data), [])
    a, b = np.array([0.6, 0.1, 1.0, 0.8]), np.array([0.1, 0.1, 1.0, 0.2])
    gap = found.difference(a, b)
    (file,) = (tmp_path / "paired").iterdir()
    assert found.difference(a, b) == gap
    file.write_text("{")
    assert found.difference(a, b) == gap
    assert gap.mean == pytest.approx(0.275)
