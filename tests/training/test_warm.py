"""A warm start gives known users and items what was learned of them, wherever they stand now."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch

from nmtr.data.events import from_frame
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.run import Run, Settings, execute
from nmtr.training.selection import new_model
from nmtr.training.warm import Learned, axes

BEHAVIORS = ("view", "cart", "buy")
TRAINED = ("nmtr-gmf", "nmtr-neumf", "nmtr-staged", "cmf", "bpr", "gmf", "mc-bpr", "mc-mlp",
           "lightgcn")  # fmt: skip


def learned(run: Run) -> Learned:
    return Learned(
        run.settings, run.data.behaviors, run.model.state_dict(), run.data.users, run.data.items,
        run.calibration,
    )  # fmt: skip


@pytest.fixture(scope="module")
def larger(timed: Interactions) -> Interactions:
    """The shop's log after users and items that it did not have, which so stand first."""
    assert timed.time is not None
    first = int(np.min(timed.time))
    new = pl.DataFrame({
        "user_id": ["new-1", "new-2", "new-1"], "item_id": [-5, -5, -6],
        "behavior": ["view", "view", "buy"], "timestamp": [first - 3, first - 2, first - 1],
    })  # fmt: skip
    old = pl.DataFrame({
        "user_id": timed.users.take(timed.user), "item_id": timed.items.take(timed.item),
        "behavior": [BEHAVIORS[each] for each in timed.code.tolist()],
        "timestamp": np.asarray(timed.time),
    })  # fmt: skip
    cut = timed.holdout["cut"]
    return prepare(from_frame(pl.concat([new, old])), behaviors=BEHAVIORS, holdout=f"time:{cut}")


def test_known_rows_are_carried_by_their_ids_and_new_ones_stay_as_drawn(
    finished: Run, larger: Interactions
) -> None:
    fresh = new_model(larger, finished.settings).state_dict()
    model = new_model(larger, finished.settings)
    learned(finished).give(model, larger)
    warm = model.state_dict()
    old = finished.model.state_dict()
    users = finished.data.users.indices(larger.users.ids)
    items = finished.data.items.indices(larger.items.ids)
    assert (users[:2] == -1).all()
    assert (items[:2] == -1).all()
    for name, places in (("user", users), ("item", items), ("bias", items)):
        known = places >= 0
        assert torch.equal(warm[name][known], old[name][places[known]])
        assert torch.equal(warm[name][~known], fresh[name][~known])
    assert torch.equal(warm["units.0.h"], old["units.0.h"])
    assert not torch.equal(warm["units.0.h"], fresh["units.0.h"])


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_model_s_tables_are_told_apart_even_where_sizes_agree(name: str) -> None:
    found = axes(Settings(name), BEHAVIORS)
    shape = Shape(8, 8, BEHAVIORS)
    tensors = make(name, {}, shape).state_dict()
    assert found.keys() == tensors.keys()
    assert any(kinds[:1] == ("user",) for kinds in found.values())
    assert any(kinds[:1] == ("item",) for kinds in found.values())
    for each, kinds in found.items():
        sizes = tuple(tensors[each].shape)
        assert all(size == 8 for size, kind in zip(sizes, kinds, strict=True) if kind)


def test_a_run_may_start_from_what_was_learned_and_keeps_its_calibration(
    finished: Run, larger: Interactions, small: Callable[..., Settings]
) -> None:
    settings = small(select="none", epochs=1)
    cold = execute(larger, settings)
    warm = execute(larger, settings, learned=learned(finished))
    assert finished.calibration
    assert warm.calibration
    assert warm.calibration.slope == finished.calibration.slope
    users = finished.data.users.indices(larger.users.ids)
    known = users >= 0

    def moved(run: Run) -> float:
        gap = (
            run.model.state_dict()["user"][known]
            - finished.model.state_dict()["user"][users[known]]
        )
        return float(gap.norm())

    assert moved(warm) < moved(cold) / 2


def test_a_warm_start_repeats_to_the_bit(
    finished: Run, larger: Interactions, small: Callable[..., Settings]
) -> None:
    settings = small(select="none", epochs=2)
    one, other = (execute(larger, settings, learned=learned(finished)) for _ in range(2))
    for name, each in one.model.state_dict().items():
        assert torch.equal(each, other.model.state_dict()[name])
