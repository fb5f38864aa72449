"""A step of Adagrad in one pass over a batch, against the loss, its gradient and the optimiser."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from nmtr.models import make
from nmtr.models.base import Batch, Model, Shape
from nmtr.training.optim import Adagrad, make_optimizer

BEHAVIORS = ("view", "cart", "buy")
USERS, ITEMS, ROWS = 40, 60, 500


def model(name: str = "nmtr-gmf", **options: Any) -> Model:
    torch.manual_seed(0)
    made = make(name, {"embedding": 20, "init_std": 0.3, **options}, Shape(USERS, ITEMS, BEHAVIORS))
    with torch.no_grad():
        for each in made.parameters():
            each.add_(torch.randn_like(each) * 0.1)
    return made


def batch(behaviors: int, seed: int, *, ordered: bool = True, rows: int = ROWS) -> Batch:
    """Rows of some users, in which behaviours weigh now and then, between others that do not."""
    source = torch.Generator().manual_seed(seed)
    user = torch.randint(0, USERS, (rows,), generator=source)
    item = torch.randint(0, ITEMS, (rows,), generator=source)
    drawn = torch.rand(2, rows, behaviors, generator=source)
    weight = (drawn[0] > 0.4).float() * (1 + drawn[1])
    target = (drawn[1] > 0.5).float()
    return Batch(user.sort().values if ordered else user, item, target, weight)


def both_ways(made: Model, batches: list[Batch]) -> list[tuple[Model, list[float], Adagrad]]:
    """The model trained by the pass, and by loss, gradient and step."""
    found = []
    for whole in (True, False):
        own = copy.deepcopy(made).train()
        optimizer = make_optimizer("adagrad", own.named_parameters(), rate=0.1)
        assert isinstance(optimizer, Adagrad)
        step = optimizer.whole_step(own)
        assert step is not None
        losses = []
        for each in batches:
            if whole:
                losses.append(step(each))
            else:
                loss = own.loss(each)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
        found.append((own, losses, optimizer))
    return found


def assert_alike(found: list[tuple[Model, list[float], Adagrad]]) -> None:
    (ours, our_losses, our_state), (plain, losses, state) = found
    assert our_losses == pytest.approx(losses, rel=1e-5)
    for name, each in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), each, rtol=1e-4, atol=2e-5)
    assert our_state.steps == state.steps
    for name, squares in state.state.items():
        torch.testing.assert_close(our_state.state[name], squares, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", ["probability", "logit", "none"])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_pass_does_what_loss_gradient_and_step_do(kind: str, l2: float, ordered: bool) -> None:
    made = model(cascade=kind, l2=l2, lambdas=(0.5, 2.0, 1.0))
    found = both_ways(made, [batch(3, seed, ordered=ordered) for seed in range(4)])
    assert_alike(found)
    moved = found[0][0].get_parameter("units.2.h") - made.get_parameter("units.2.h")
    assert moved.abs().max() > 0.01


@pytest.mark.parametrize("rows", [1, 127, 128, 129])
def test_a_batch_may_have_any_number_of_rows(rows: int) -> None:
    assert_alike(both_ways(model(l2=0.1), [batch(3, 0, rows=rows)]))


def test_rows_in_which_nothing_weighs_are_shrunk_alone() -> None:
    nothing = batch(3, 0)
    nothing.weight.zero_()
    assert_alike(both_ways(model(l2=0.1), [nothing]))
    assert_alike(both_ways(model(l2=0.1), [batch(3, 0, rows=0)]))


def test_gmf_of_the_target_alone_has_it_too() -> None:
    assert_alike(both_ways(model("gmf", l2=0.2), [batch(1, seed) for seed in range(3)]))


def test_a_stage_learns_by_its_own_loss() -> None:
    made = model("nmtr-staged", l2=0.2)
    made.begin(0)
    assert_alike(both_ways(made, [batch(3, seed) for seed in range(2)]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nmtr-neumf", {}),
        ("nmtr-gmf", {"dropout": 0.2}),
        ("nmtr-gmf", {"cascade": "product"}),
        ("nmtr-balanced", {}),
        ("neumf", {}),
    ],
)
def test_other_losses_have_no_such_pass(name: str, options: dict[str, Any]) -> None:
    made = model(name, **options)
    assert make_optimizer("adagrad", made.named_parameters(), rate=0.1).whole_step(made) is None


@pytest.mark.parametrize("name", ["adam", "sgd", "rowwise-adagrad"])
def test_other_optimizers_make_their_own_steps(name: str) -> None:
    made = model()
    assert make_optimizer(name, made.named_parameters(), rate=0.1).whole_step(made) is None


def test_a_parameter_with_a_rate_of_its_own_is_not_forgotten() -> None:
    made = model()
    shares = {"units.0.h": 0.5}
    optimizer = make_optimizer("adagrad", made.named_parameters(), rate=0.1, shares=shares)
    assert optimizer.whole_step(made) is None


def test_a_batch_that_does_not_fit_is_refused() -> None:
    made = model()
    step = make_optimizer("adagrad", made.named_parameters(), rate=0.1).whole_step(made)
    assert step
    wrong = batch(3, 0)
    wrong.item[0] = ITEMS
    with pytest.raises(ValueError, match="item"):
        step(wrong)
