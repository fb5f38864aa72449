"""A cascade as compiled code and fold-in read it, against the paper's equations in plain Python."""

from __future__ import annotations

from math import exp

import pytest
import torch
from torch import Tensor

from nmtr.models.cascades import cascade_logits, indexed, laid_out
from nmtr.models.units import GMF, MLP, NeuMF, Unit

ITEM = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
BIAS = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
H = ([1.0, 0.0], [0.0, 2.0], [4.0, 4.0])  # three behaviours' GMF


def gmfs(*weights: list[float]) -> list[Unit]:
    units: list[Unit] = []
    for each in weights:
        unit = GMF(len(each))
        with torch.no_grad():
            unit.h.copy_(torch.tensor(each))
        units.append(unit)
    return units


def logits_by_hand(p: list[float], item: int, kind: str) -> list[float]:
    """Equations 3 and 4 for one user and one item; `logit` is the mean with the level below."""
    found: list[float] = []
    for r, h in enumerate(H):
        own = float(BIAS[item, r]) + sum(h[e] * p[e] * float(ITEM[item, e]) for e in range(len(p)))
        if r and kind == "probability":
            own += 1 / (1 + exp(-found[-1]))
        elif r and kind == "logit":
            own = (own + found[-1]) / 2
        found.append(own)
    return found


@pytest.mark.parametrize("kind", ["probability", "logit", "none"])
def test_a_vector_s_logits_are_the_equations(kind: str) -> None:
    p = [-0.75, 0.125]
    expected = [logits_by_hand(p, item, kind) for item in range(len(ITEM))]
    found = cascade_logits(gmfs(*H), ITEM, BIAS, kind)(torch.tensor(p))
    assert torch.allclose(found, torch.tensor(expected).T)


@pytest.mark.parametrize(
    ("kind", "vectors"),
    [
        # a quarter of the two lowest and half of the target: h [2.25, 2.5], b 2.75 and 22
        ("logit", [[2.25, 5.0, 2.75], [6.75, 10.0, 22.0]]),
        ("probability", [[4.0, 8.0, 4.0], [12.0, 16.0, 32.0]]),  # the target's own part
        ("none", [[4.0, 8.0, 4.0], [12.0, 16.0, 32.0]]),
    ],
)
def test_an_index_holds_what_of_the_target_s_logit_is_a_product(
    kind: str, vectors: list[list[float]]
) -> None:
    found = indexed(gmfs(*H), ITEM, BIAS, kind)
    assert found is not None
    assert found.tolist() == vectors
    p = [-0.75, 0.125]
    for item, product in enumerate((found @ torch.tensor([*p, 1.0])).tolist()):
        more = logits_by_hand(p, item, kind)[-1] - product
        assert 0 < more < 1 if kind == "probability" else more == pytest.approx(0)


def test_an_index_of_one_behaviour_is_all_of_it() -> None:
    for kind in ("logit", "probability"):
        found = indexed(gmfs([2.0, 3.0]), ITEM, BIAS[:, :1], kind)
        assert found is not None
        assert found.tolist() == [[2.0, 6.0, 1.0], [6.0, 12.0, 8.0]]
    assert indexed([NeuMF(2, (3,), "relu", 0.0)], ITEM, BIAS[:, :1], "logit") is None


def test_gmf_s_arrays_are_its_own_and_other_users_keep_the_items() -> None:
    units = gmfs(*H)
    users = torch.tensor([[1.0, 2.0]])
    first = laid_out(units, users, ITEM, BIAS, (), None)
    shown = (first.p, first.q, first.bias, first.h)
    assert [each.tolist() for each in shown] == [each.tolist() for each in (users, ITEM, BIAS)] + [
        list(H)
    ]
    assert (first.first_p.shape, first.first_q.shape) == ((1, 0), (2, 0))
    assert (first.upper.size, len(first.widths)) == (0, 0)
    others = torch.tensor([[5.0, 6.0], [7.0, 8.0], [9.0, 0.0]])
    second = laid_out(units, others, torch.zeros_like(ITEM), BIAS, (), first)
    assert second.p.tolist() == others.tolist()
    assert second.first_p.shape == (3, 0)
    assert all(getattr(second, each) is getattr(first, each) for each in ("q", "bias", "first_q"))


def whole_numbered(*layers: int) -> MLP:
    """An MLP on two vectors of two whose weights are whole numbers, so that sums are exact."""
    unit = MLP(2, layers, "relu", 0.0)
    with torch.no_grad():
        for each in unit.parameters():
            each.copy_(torch.randint(-4, 5, each.shape))
    return unit


def first_by_hand(units: list[MLP], rows: Tensor, side: str) -> list[list[float]]:
    """W x (+ b for users), level after level, row after row."""
    found = []
    for unit in units:
        layer = getattr(unit.tower, side)
        shift = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
        lines = list(zip(layer.weight.tolist(), shift, strict=True))
        found += [[w[0] * x + w[1] * y + b for w, b in lines] for x, y in rows.tolist()]
    return found


def test_an_mlp_s_first_layers_lie_level_after_level_and_other_users_bring_theirs() -> None:
    torch.manual_seed(0)
    units = [whole_numbered(3, 2) for _ in range(2)]
    users, bias = torch.tensor([[1.0, 2.0]]), BIAS[:, :2]
    first = laid_out(units, users, ITEM, bias, (3, 2), None)
    assert first.first_p.tolist() == first_by_hand(units, users, "first_p")
    assert first.first_q.tolist() == first_by_hand(units, ITEM, "first_q")
    assert (first.h.shape, first.widths.tolist()) == ((2, 0), [3, 2])
    for unit, row in zip(units, first.upper, strict=True):
        (rest,) = unit.tower.rest.children()
        weight, shift = (each.detach() for each in rest.parameters())
        flat = [*weight[:, 0], *weight[:, 1], *weight[:, 2], *shift, *unit.h.detach()]
        assert row.tolist() == [float(each) for each in flat]
    others = torch.tensor([[5.0, 6.0], [7.0, 8.0], [9.0, 0.0]])
    second = laid_out(units, others, ITEM, bias, (3, 2), first)
    assert second.p.tolist() == others.tolist()
    assert second.first_p.tolist() == first_by_hand(units, others, "first_p")
    assert all(getattr(second, each) is getattr(first, each) for each in ("q", "first_q", "upper"))
