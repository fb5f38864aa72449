"""Reliability shows what is calibrated as calibrated, and what is not as not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nmtr.evaluation.calibration import Cells
from nmtr.evaluation.reliability import BINS, Reliability, reliability

USERS, CELLS = 200, 200


def cells(slope: float = 1.0, *, bent: float = 0.0, seed: int = 0) -> Cells:
    """Cells whose true log odds are slope z + log odds of the prior - bent z^2."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS) * 3, CELLS)
    z = rng.normal(0, 1, (1, len(user))).astype(np.float32)
    prior = np.repeat(rng.normal(-3, 0.7, USERS), CELLS)[None].astype(np.float32)
    true = 1 / (1 + np.exp(-(slope * z + prior - bent * z**2)))
    return Cells(user, z, prior, (rng.random(z.shape) < true).astype(np.float32))


def test_what_a_platt_fit_can_say_comes_true() -> None:
    (found,) = reliability(cells(0.7), ["like"])
    inside = [each.low <= each.predicted <= each.high for each in found.bins]
    assert sum(inside) >= BINS - 1
    assert found.error < 0.003
    assert found.rate == pytest.approx(sum(x.cells * x.observed for x in found.bins) / found.cells)


def test_what_it_cannot_say_is_seen() -> None:
    (found,) = reliability(cells(2.0, bent=1.5), ["like"])
    inside = [each.low <= each.predicted <= each.high for each in found.bins]
    assert sum(inside) <= BINS - 3


def test_bins_expect_equally_many_records_and_hold_all_cells() -> None:
    made = cells()
    (found,) = reliability(made, ["like"])
    expected = [each.cells * each.predicted for each in found.bins]
    assert expected == pytest.approx([np.mean(expected)] * BINS, rel=0.01)
    assert sum(each.cells for each in found.bins) == found.cells == USERS * CELLS
    assert found.records == made.label.sum()
    assert [each.predicted for each in found.bins] == sorted(each.predicted for each in found.bins)


def test_a_half_is_judged_by_the_other_half() -> None:
    """The labels of the odd users are turned around: each half foretells the other's wrong."""
    made = cells(2.0)
    odd = (made.user // 3) % 2 == 1
    turned = Cells(made.user, np.where(odd, -made.scores, made.scores), made.prior, made.label)
    (fine,), (wrong,) = reliability(made, ["like"]), reliability(turned, ["like"])
    assert fine.bins[-1].observed == pytest.approx(fine.bins[-1].predicted, rel=0.2)
    assert wrong.bins[-1].observed < wrong.bins[-1].predicted / 2


def test_one_user_cannot_be_judged_by_another() -> None:
    assert reliability(cells().take(cells().user == 0), ["like"]) == []


def test_it_goes_to_json_and_back() -> None:
    found = reliability(cells(), ["like"])
    text = json.dumps([each.to_json() for each in found])
    assert [Reliability.from_json(each) for each in json.loads(text)] == found
