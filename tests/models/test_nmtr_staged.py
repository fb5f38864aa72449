"""NMTR level by level: each stage minimises one behaviour's loss, the target's last."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Batch, Shape
from nmtr.models.nmtr import NMTR
from nmtr.models.nmtr_staged import StagedNMTR
from nmtr.training.run import Settings, execute
from nmtr.training.trainer import Training

SHAPE = Shape(6, 5, ("view", "cart", "buy"))


def staged(**options: object) -> StagedNMTR:
    torch.manual_seed(1)
    model = make("nmtr-staged", {"embedding": 4, "init_std": 0.5, **options}, SHAPE)
    assert isinstance(model, StagedNMTR)
    return model


def batch() -> Batch:
    target = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    return Batch(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 4]), target, torch.ones(4, 3))


@pytest.mark.parametrize("unit", ["gmf", "neumf"])
def test_a_stage_s_loss_is_the_joint_one_with_all_weight_on_its_level(unit: str) -> None:
    model = staged(unit=unit, stage_epochs=2)
    for epoch, level in enumerate((0, 0, 1, 1, 2, 2, 2)):
        model.begin(epoch)
        lambdas = tuple(float(r == level) for r in range(3))
        joint = make("nmtr", {"embedding": 4, "unit": unit, "lambdas": lambdas}, SHAPE)
        assert isinstance(joint, NMTR)
        joint.load_state_dict(model.state_dict())
        assert_close(model.loss(batch()), joint.loss(batch()))


def test_the_first_stage_moves_nothing_of_the_levels_above() -> None:
    model = staged(unit="gmf")
    model.begin(0)
    model.loss(batch()).backward()  # type: ignore[no-untyped-call]
    for r, unit in enumerate(model.units):
        moved = any(bool(each.grad.any()) for each in unit.parameters() if each.grad is not None)
        assert moved == (r == 0)
    assert model.bias.grad is not None
    columns = model.bias.grad.to_dense().abs().sum(0) > 0
    assert columns.tolist() == [True, False, False]


def test_only_an_epoch_of_the_last_stage_is_chosen(prepared: Callable[..., Interactions]) -> None:
    training = Training(epochs=6, patience=6, calibrate=False)
    options = {"embedding": 8, "stage_epochs": 2}
    run = execute(prepared("random"), Settings("nmtr-staged", "as-published", options, training))
    assert run.epochs > 4
    short = Settings("nmtr-staged", "as-published", options, Training(epochs=4))
    with pytest.raises(UsageError, match="expected more than the 4"):
        execute(prepared("random"), short)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"stage_epochs": 0}, "stage_epochs"), ({"lambdas": (1, 1, 1)}, "one loss")],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make("nmtr-staged", options, SHAPE)
