"""MR-BPR: what each relation's triples are, and how often they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nmtr.data.records import CSR, Records
from nmtr.errors import UsageError
from nmtr.models import make, mr_bpr
from nmtr.models.base import Shape

M, N = 200, 40
BEHAVIORS = ("glance", "hold", "keep")


def records() -> Records:
    """Each pair of a behaviour has all behaviours below it; some three times as many a level."""
    rng = np.random.default_rng(4)
    users, items = np.nonzero(rng.random((M, N)) < 0.3)
    draw = rng.random(len(users))
    return Records(
        BEHAVIORS,
        tuple(CSR.from_pairs(users[draw < s], items[draw < s], M, N) for s in (1, 0.4, 0.1)),
    )


def swept(given: Records, rate: float = 2e-5, **options: Any) -> mr_bpr.MRBPR:
    """One epoch: of vectors of nothing and a tiny rate, a triple moves two biases by rate / 2."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = make("mr-bpr", {"l2": 0.0, **options}, Shape(M, N, given.behaviors))
    assert isinstance(model, mr_bpr.MRBPR)
    with torch.no_grad():
        model.user.zero_()
        model.item.zero_()
    model.learn(given)
    model.sweep(given, rate=rate, negatives=1)(3)
    return model


def met(model: mr_bpr.MRBPR, given: Records) -> list[float]:
    """About how many triples each relation had: what its negatives, unlike its items, got."""
    found = []
    for moves, each in zip(model.bias.detach().numpy() / 1e-5, given.sets, strict=True):
        assert abs(moves.sum()) < 0.5, "as many negatives as positives"
        everyone = each.column_counts() == M
        found.append(float(moves[everyone].sum()))
    return found


def with_a_favourite(given: Records) -> Records:
    """The same, and item 0 of everyone under every behaviour: it is nobody's negative."""
    sets = []
    for each in given.sets:
        users = np.concatenate([each.row_of_each(), np.arange(M)])
        items = np.concatenate([each.indices, np.zeros(M, np.int64)])
        sets.append(CSR.from_pairs(users, items, M, N))
    return Records(given.behaviors, tuple(sets))


@pytest.mark.parametrize("alpha", [(), (1.0, 2.0, 0.5), (0.0, 1.0, 1.0)])
def test_a_relation_s_pairs_come_by_its_weight_and_its_size(alpha: tuple[float, ...]) -> None:
    given = with_a_favourite(records())
    weights = np.array(alpha or (1.0, 1.0, 1.0))
    chance = weights / [each.nnz for each in given.sets]
    chance /= chance.max()
    found = met(swept(given, alpha=alpha), given)
    for share, times in zip(chance, found, strict=True):
        assert times == pytest.approx(M * share, abs=4 * (M * share * (1 - share)) ** 0.5 + 0.2)


def test_a_relation_s_negative_may_be_the_positive_of_a_lower_one() -> None:
    """An item of everyone under the lower behaviour only is drawn against the target's."""
    given = records()
    lower = with_a_favourite(given).sets[0]
    target = given.target.without(np.arange(M), np.zeros(M, np.int64))
    moves = swept(Records(("glance", "keep"), (lower, target))).bias.detach()[:, 0]
    assert moves[0] > 0
    assert moves[1] < 0


def test_only_the_items_biases_tell_relations_apart() -> None:
    given = records()
    model = swept(given, rate=0.05)
    histories = given.histories(np.arange(M))
    with torch.inference_mode():
        scores = model.score_behaviors(model.encode(histories), histories)
    apart = scores[:, 0] - scores[:, 2]
    assert torch.allclose(apart, apart[:1].expand(M, -1), atol=1e-5)
    assert apart.abs().max() > 0.01


@pytest.mark.parametrize("wrong", [(-1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (float("nan"), 1.0, 1.0)])
def test_weights_that_cannot_be_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        mr_bpr.Config(alpha=wrong)


def test_a_weight_for_each_behaviour_is_asked_for() -> None:
    with pytest.raises(UsageError, match="3 weights, one for each of glance, hold, keep, got 2"):
        make("mr-bpr", {"alpha": (1.0, 1.0)}, Shape(M, N, BEHAVIORS))
