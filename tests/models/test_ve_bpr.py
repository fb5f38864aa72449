"""VE-BPR: from which sets its sampler draws, and how often."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
import torch

from nmtr.data.records import CSR, Records, union
from nmtr.models import make, ve_bpr
from nmtr.models.base import Shape
from nmtr.models.kernels.between import pair
from nmtr.models.levels import LevelPairs

N = 12
# Of user 0, items 0-2 are the target's, 3-6 between (of two behaviours), 7-11 the rest; user 1 has
# nothing between; user 2 has no target.
GLANCE = CSR.from_pairs([0, 0, 0, 2], [0, 3, 4, 5], 3, N)
HOLD = CSR.from_pairs([0, 0, 0], [1, 5, 6], 3, N)
KEEP = CSR.from_pairs([0, 0, 0, 1, 1], [0, 1, 2, 8, 9], 3, N)
GIVEN = Records(("glance", "hold", "keep"), (GLANCE, HOLD, KEEP))


@numba.njit
def draw(user: int, drawn: Any, above: float, between: float, times: int) -> Any:
    counts, state = np.zeros((N, N), np.int64), np.uint64(11)
    for _ in range(times):
        i, j, state = pair(user, drawn[0], drawn[1], drawn[2], above, between, N, state)
        counts[i, j] += 1
    return counts


def counts(user: int, above: float, between: float, times: int = 40_000) -> npt.NDArray[Any]:
    two = Records(("auxiliary", "target"), (union([GLANCE, HOLD]), KEEP))
    pairs = LevelPairs.from_records(two, ve_bpr.TWO_LEVELS)
    found: npt.NDArray[Any] = draw(user, pairs.drawn()[:3], above, between, times) / times
    return found


@pytest.mark.parametrize(("above", "between"), [(0.1, 0.3), (0.0, 1.0), (1.0, 0.0), (0.25, 0.0)])
def test_pairs_come_from_three_sets_by_their_chances_alike_within_each(
    above: float, between: float
) -> None:
    wanted = np.zeros((N, N))
    target, middle, rest = slice(0, 3), slice(3, 7), slice(7, 12)
    wanted[target, middle] = above / 12
    wanted[target, rest] = (1 - above - between) / 15
    wanted[middle, rest] = between / 20
    assert np.allclose(counts(0, above, between), wanted, atol=0.005)


def test_who_has_nothing_between_is_given_targets_and_the_rest() -> None:
    found = counts(1, 0.4, 0.4)
    assert set(np.flatnonzero(found.sum(1))) == {8, 9}
    assert not found[:, [8, 9]].any()
    assert np.allclose(found[[8, 9]][:, :8], 1 / 20, atol=0.005)


def test_an_epoch_draws_as_many_pairs_as_targets_and_skips_who_has_none() -> None:
    """Of vectors of nothing and a tiny rate, each pair moves two biases by half the rate."""
    torch.manual_seed(0)
    model = make("ve-bpr", {"above": 1.0, "between": 0.0, "l2": 0.0}, Shape(3, N, GIVEN.behaviors))
    assert isinstance(model, ve_bpr.VEBPR)
    with torch.no_grad():
        model.user.zero_()
        model.item.zero_()
    alone = KEEP.without(np.array([1, 1]), np.array([8, 9]))
    given = Records(GIVEN.behaviors, (GLANCE, HOLD, alone))
    model.learn(given)
    model.sweep(given, rate=2e-5, negatives=4)(1)
    moves = model.bias.detach().numpy() / 1e-5
    assert moves[:3].sum() == pytest.approx(3 * 4, abs=0.1)
    assert moves[3:7].sum() == pytest.approx(-3 * 4, abs=0.1)
    assert not moves[7:].any()
    found = model.encode(given.histories(np.array([0, 1, 2, -1])))
    assert torch.equal(found[1], found[3]), "who has no target record is scored as a stranger"
    assert torch.equal(found[2], found[3])


def test_on_the_target_alone_nothing_is_between() -> None:
    torch.manual_seed(0)
    alone = Records(("keep",), (KEEP,))
    model = make("ve-bpr", {}, Shape(3, N, alone.behaviors))
    model.learn(alone)
    assert np.isfinite(model.sweep(alone, rate=0.1, negatives=2)(0))


@pytest.mark.parametrize("wrong", [(-0.1, 0.2), (0.7, 0.4), (float("nan"), 0.1)])
def test_chances_that_cannot_be_are_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="sum to at most 1"):
        ve_bpr.Config(above=wrong[0], between=wrong[1])
