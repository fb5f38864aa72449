"""FISM: the item itself left out, and its step against the slope of its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nmtr.data.records import CSR, Records
from nmtr.models import fism, make
from nmtr.models.base import Shape

M, N, E = 14, 10, 4
POWER, WEIGHTS = 0.7, (0.5, 1.0)
RNG = np.random.default_rng(6)
GLANCED = RNG.random((M, N)) < 0.35
KEPT = GLANCED & (RNG.random((M, N)) < 0.5)
GLANCED[0], KEPT[0] = False, False
KEPT[1], GLANCED[1] = False, False
KEPT[1, 3] = True
X = WEIGHTS[0] * GLANCED + WEIGHTS[1] * KEPT


def csr(cells: npt.NDArray[np.bool_]) -> CSR:
    users, items = np.nonzero(cells)
    return CSR.from_pairs(users, items, M, N)


GIVEN = Records(("glance", "keep"), (csr(GLANCED), csr(KEPT)))


def new(**options: Any) -> fism.FISM:
    torch.manual_seed(0)
    given = {"embedding": E, "power": POWER, "weights": WEIGHTS, "init_std": 0.5} | options
    model = make("fism", given, Shape(M, N, GIVEN.behaviors))
    assert isinstance(model, fism.FISM)
    with torch.no_grad():
        model.bias.normal_(0, 0.3)
    return model


def test_an_item_is_scored_by_the_user_s_other_items_alone() -> None:
    model = new()
    p, q, bias = (each.detach().double().numpy() for each in (model.p, model.q, model.bias))
    wanted = np.zeros((M, N))
    for user, item in np.ndindex(M, N):
        others = X[user] * (np.arange(N) != item)
        total = others.sum()
        wanted[user, item] = bias[item]
        if total:
            wanted[user, item] += total**-POWER * (others @ p) @ q[item]
    histories = GIVEN.histories(np.arange(M))
    with torch.inference_mode():
        found = model.score(model.encode(histories), histories).numpy()
    assert np.allclose(found, wanted, atol=1e-5)
    assert np.allclose(found[0], bias, atol=1e-6), "who has nothing is scored by the biases"
    assert found[1, 3] == pytest.approx(bias[3], abs=1e-6), "and so is one's only item"


def test_an_epoch_of_one_positive_goes_down_its_loss() -> None:
    """Each user but one has no target; item 9 is the only one left to be a negative."""
    glanced = np.zeros((M, N), np.bool_)
    glanced[2, :9] = True
    kept = np.zeros((M, N), np.bool_)
    kept[2, 4] = True
    given = Records(GIVEN.behaviors, (csr(glanced), csr(kept)))
    model = new(l2=0.03)
    p, q, bias = leaves = [
        each.detach().double().clone().requires_grad_() for each in (model.p, model.q, model.bias)
    ]
    others = torch.tensor([0.5] * 9 + [0.0]).double()
    others[4] = 0
    mine = others.sum() ** -POWER * (others @ p)
    loss = (1 - mine @ (q[4] - q[9]) - bias[4] + bias[9]) ** 2 / 2
    met = [each for each in range(9) if each != 4]
    decay = p[met].square().sum() + q[[4, 9]].square().sum() + bias[[4, 9]].square().sum()
    (loss + 0.03 / 2 * decay).backward()  # type: ignore[no-untyped-call]
    found = model.sweep(given, rate=0.1, negatives=1)(0)
    assert found == pytest.approx(loss.item(), abs=1e-5)
    for after, leaf in zip((model.p, model.q, model.bias), leaves, strict=True):
        assert leaf.grad is not None
        wanted = leaf.detach() - 0.1 * leaf.grad
        assert np.allclose(after.detach().numpy(), wanted.numpy(), atol=1e-6)


def test_no_record_of_the_item_itself_under_any_behaviour_tells_of_it() -> None:
    """Users who hold one thing and keep it: were it not left out, they would be told apart."""
    own = CSR.from_pairs(np.arange(N), np.arange(N), N, N)
    given = Records(GIVEN.behaviors, (own, own))
    torch.manual_seed(0)
    model = make("fism", {"weights": (1.0, 1.0)}, Shape(N, N, given.behaviors))
    sweep = model.sweep(given, rate=0.1, negatives=2)
    before = model.state_dict()["p"].clone()
    for seed in range(5):
        sweep(seed)
    assert torch.equal(model.state_dict()["p"], before)


def test_strangers_with_a_history_are_scored_as_users_who_have_it() -> None:
    model = new()
    known = GIVEN.histories(np.arange(M))
    strangers = type(known)(np.full(M, -1), known.items)
    with torch.inference_mode():
        scores = [model.score(model.encode(each), each) for each in (known, strangers)]
    assert torch.equal(*scores)


@pytest.mark.parametrize(
    "wrong", [{"embedding": 0}, {"power": 1.1}, {"l2": -1.0}, {"init_std": 0.0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        fism.Config(**wrong)
