"""Cells: which there are, what settings they have, and what a part of the data leaves as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmtr.data.interactions import Interactions, load
from nmtr.data.split import split
from nmtr.experiments.cells import Cell, run_cell, split_for
from nmtr.experiments.plan import Asked, plan
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.settings import Settings

BEHAVIORS = ("view", "cart", "buy")


def test_parts_are_ranked_for_the_whole_log_s_users_with_its_mask(
    data: Interactions, tmp_path: Path
) -> None:
    cell = Cell("popularity", Settings("popularity", "as-published"), behaviors=("view", "buy"))
    called: list[int] = []
    run_cell(tmp_path, cell, data, before_read=lambda: called.append(1))
    assert called == [1]
    part = load(tmp_path / "data" / "view+buy")
    for protocol in cell.reads:
        whole, ours = split(data, protocol), split_for(cell, data, part, protocol)
        assert np.array_equal(ours.evaluation.users, whole.evaluation.users)
        assert np.array_equal(ours.evaluation.mask.keys(), whole.evaluation.mask.keys())
        assert np.array_equal(ours.evaluation.in_funnel, whole.evaluation.in_funnel)
        assert ours.train.behaviors == ("view", "buy")
        assert len(ours.evaluation.histories.items) == 2


def test_values_per_behaviour_follow_the_part() -> None:
    settings = Settings("nmtr-gmf", "as-published", {"lambdas": (1.0, 2.0, 3.0)})
    cell = Cell("nmtr-gmf", settings, behaviors=("cart", "buy"))
    assert cell.fitted(BEHAVIORS).options["lambdas"] == (2.0, 3.0)


def test_cells_are_shared_between_targets_and_their_names_are_their_own(data: Interactions) -> None:
    asked = Asked(data, seeds=2, draws=2)
    cells = {target: plan(asked, target) for target in ("table2", "table3", "figure2", "claims")}
    names = [each.name for each in cells["claims"]]
    assert len(names) == len(set(names))
    for target in ("table2", "table3", "figure2"):
        assert {each.name for each in cells[target]} <= set(names)
    assert sum(each.row == "ease" for each in cells["table2"]) == 1  # no chance in it
    assert sum(each.row == "bpr" for each in cells["table2"]) == 2


def test_every_cell_s_settings_make_its_model_presets_included(data: Interactions) -> None:
    cells = plan(Asked(data, "beibei"), "claims")
    assert {each.source for each in cells if each.row == "ease"} == {
        "preset beibei/as-published/ease"
    }
    for cell in cells:
        behaviors = cell.behaviors or BEHAVIORS
        settings = cell.fitted(BEHAVIORS)
        assert len(settings.training.negatives) in (1, len(behaviors))
        model = make(settings.model, settings.options, Shape(4, 5, behaviors))
        assert not model.trained or settings.training.epochs > model.warm_up


def test_data_cut_in_time_have_cells_of_that_protocol_alone(timed: Interactions) -> None:
    cells = plan(Asked(timed, "beibei", leak_free=True), "table2")
    assert {each.settings.protocol for each in cells} == {"time"}
