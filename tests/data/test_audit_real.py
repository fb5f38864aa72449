"""An audit finds what is known of the real logs."""

import os
from pathlib import Path

import pytest
from tests.data.test_audit import FUNNEL, said, shown, silent

from nmtr.data.audit import Audit, audit
from nmtr.data.auditing.figures import HeldOutFigures, IdOrder, Marginal, Shift, Times
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.prepare import prepare

REAL = Path(os.environ.get("NMTR_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real(name: str, *, holdout: str | None = None) -> Audit:
    if not (REAL / name).is_dir():
        pytest.skip(f"needs the {name} log in {REAL / name} (NMTR_DATA)")
    options = ReadOptions(behaviors=FUNNEL)
    log = read_events([REAL / name / "events.parquet"], options)
    rule = holdout or str(REAL / name / "test.parquet")
    return audit(prepare(log, behaviors=FUNNEL, holdout=rule, options=options))


def test_beibei() -> None:
    found = real("beibei")
    assert [each.pairs for each in found.volumes] == [2_412_586, 642_622, 282_860]
    assert found.nesting == {"cart": {"view": 1.0}, "buy": {"view": 1.0, "cart": 1.0}}
    held, ids, totals, moved = found.held_out, found.id_order, found.marginal, found.shift
    assert isinstance(held, HeldOutFigures)
    assert isinstance(ids, IdOrder)
    assert isinstance(totals, Marginal)
    assert isinstance(moved, Shift)
    assert held.held_out_in["cart"] == pytest.approx(0.623, abs=5e-4)
    assert held.held_out_in["view"] == pytest.approx(0.657, abs=5e-4)
    assert held.slices["new"] == 7442
    assert ids.above == pytest.approx(
        {"all": 0.629, "in-funnel": 0.906, "in view": 0.906, "in cart": 0.951, "new": 0.096},
        abs=5e-4,
    )
    assert ids.chance["all"] == pytest.approx(0.087, abs=5e-4)
    assert totals.by_totals["in cart"] == pytest.approx(0.199, abs=5e-4)
    assert totals.by_popularity["in cart"] == pytest.approx(0.135, abs=5e-4)
    assert totals.by_totals["new"] == pytest.approx(0.088, abs=5e-4)
    assert totals.by_popularity["new"] == pytest.approx(0.160, abs=5e-4)
    assert moved.held_out == pytest.approx(0.465, abs=5e-4)
    assert moved.train_top == pytest.approx(0.332, abs=5e-4)
    assert (found.groups[0].low, found.groups[0].high) == (5, 8)
    assert found.protocol == "discovery"
    text = shown(found)
    for figure in ("2,412,586", "642,622", "282,860", "100.0 %", "62.3 %", "65.7 %", "62.9 %"):
        assert figure in text
    assert found.verdicts[0].startswith("62.3 % of the held-out buy pairs are in the user's own")
    for start in ("Item ids leak", "Item totals leak", "Popularity shifted", "Fully nested"):
        assert said(found, start)


def test_tmall_leaks_through_views_only() -> None:
    found = real("tmall")
    assert isinstance(found.held_out, HeldOutFigures)
    assert found.held_out.held_out_in == pytest.approx({"view": 0.819, "cart": 0.219}, abs=5e-4)
    assert found.nesting["cart"]["view"] == pytest.approx(0.655, abs=5e-4)
    assert found.nesting["buy"] == pytest.approx({"view": 0.812, "cart": 0.208}, abs=5e-4)
    assert found.verdicts[0].startswith("81.9 % of the held-out buy pairs")
    for quiet in ("ids leak", "totals leak", "Popularity"):
        assert silent(found, quiet)


def test_retailrocket_has_no_leak_but_removed_records_and_times() -> None:
    found = real("retailrocket")
    assert isinstance(found.held_out, HeldOutFigures)
    assert found.held_out.held_out_in == {"view": 0.0, "cart": 0.0}
    assert found.nesting["buy"] == pytest.approx({"view": 0.882, "cart": 0.919}, abs=5e-4)
    assert found.verdicts[0].startswith("No held-out buy pair has an auxiliary record")
    assert (found.protocol, "--holdout time:0.9" in found.why) == ("time", True)


@pytest.mark.parametrize("holdout", ["time:0.9", "last"])
def test_retailrocket_by_time(holdout: str) -> None:
    found = real("retailrocket", holdout=holdout)
    assert isinstance(found.times, Times)
    assert found.times.first.startswith("2015-05")
    assert silent(found, "Times look wrong")
    assert "what a shop knows too" in found.verdicts[0]
    assert found.protocol == "time"
