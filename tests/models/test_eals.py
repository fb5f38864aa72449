"""eALS and VALS against their objectives, written out pair by pair in double precision."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nmtr.data.records import CSR, Records
from nmtr.models import eals, make, vals
from nmtr.models.base import Model, Shape

M, N, E = 12, 9, 3
RIDGE, MISSING, EXPONENT, MIDDLE, GAMMA1, GAMMA2 = 0.3, 5.0, 0.5, 9.0, 0.5, 0.2
WEIGHTS = (0.25, 1.0)
Floats = npt.NDArray[np.float64]

RNG = np.random.default_rng(0)
MARK = RNG.random((M, N))
TARGET = MARK < 0.25
GLANCED = (MARK < 0.5) & (RNG.random((M, N)) < 0.9)
TARGET[3], GLANCED[4] = False, False  # one user has nothing of the target, one nothing between
BETWEEN, NEITHER = GLANCED & ~TARGET, ~GLANCED & ~TARGET
X = {"eals": WEIGHTS[0] * GLANCED + WEIGHTS[1] * TARGET, "vals": 1.0 * TARGET}


def csr(cells: npt.NDArray[np.bool_]) -> CSR:
    users, items = np.nonzero(cells)
    return CSR.from_pairs(users, items, M, N)


GIVEN = Records(("glance", "keep"), (csr(GLANCED), csr(TARGET)))
KNOWN: npt.NDArray[np.bool_] = np.any(GLANCED | TARGET, axis=1)


def objective(name: str, p: Floats, q: Floats) -> float:
    r, x = p @ q.T, X[name]
    popular = x.sum(0) ** EXPONENT * (x.sum(0) > 0)
    missing = NEITHER * MISSING * popular / popular.sum()
    loss = (x * (1 - r) ** 2).sum() + (missing * r**2).sum()
    loss += RIDGE * ((p**2).sum() + (q**2).sum())
    if name == "vals":
        for user, middle in zip(*np.nonzero(BETWEEN), strict=True):
            above, below = r[user][TARGET[user]], r[user][NEITHER[user]]
            margins = ((GAMMA1 - above + r[user, middle]) ** 2).sum()
            margins += ((GAMMA2 - r[user, middle] + below) ** 2).sum()
            loss += MIDDLE / N * margins
    return float(loss)


def swept(name: str, p: Floats, q: Floats) -> None:
    """One sweep by brute force: each coordinate to the bottom of its parabola, in turn."""
    for vectors in (p, q):
        for at in np.ndindex(vectors.shape):
            middle, values = vectors[at], []
            for step in (-1.0, 0.0, 1.0):
                vectors[at] = middle + step
                values.append(objective(name, p, q))
            bend = values[0] - 2 * values[1] + values[2]
            vectors[at] = middle - (values[2] - values[0]) / 2 / bend


def start() -> tuple[Floats, Floats]:
    torch.manual_seed(3)
    p, q = (torch.empty(n, E).normal_(0, 0.1 / E**0.5).double().numpy() for n in (M, N))
    return p, q


def taught(name: str, sweeps: int, **more: Any) -> Model:
    options = {"ridge": RIDGE, "missing": MISSING, "exponent": EXPONENT, "embedding": E} | more
    own: dict[str, Any] = {"weights": WEIGHTS}
    if name == "vals":
        own = {"middle": MIDDLE, "gamma1": GAMMA1, "gamma2": GAMMA2}
    torch.manual_seed(3)
    model = make(name, options | own | {"sweeps": sweeps}, Shape(M, N, GIVEN.behaviors))
    model.learn(GIVEN)
    return model


def factors(model: Model) -> tuple[Floats, Floats]:
    p = model.encode(GIVEN.histories(np.arange(M))).double().numpy()
    q: Any = model.state_dict()["item"]
    return np.where(KNOWN[:, None], p, 0), q.double().numpy()


BOTH = pytest.mark.parametrize("name", ["eals", "vals"])


@BOTH
def test_a_sweep_moves_each_coordinate_to_its_best_over_all_pairs(name: str) -> None:
    p, q = start()
    for sweeps in (1, 2, 3):
        before = objective(name, p, q)
        swept(name, p, q)
        assert objective(name, p, q) < before
        assert np.allclose(factors(taught(name, sweeps))[1], q, atol=1e-5)


@BOTH
def test_the_objective_never_rises_from_sweep_to_sweep(name: str) -> None:
    found = [objective(name, *factors(taught(name, sweeps))) for sweeps in (1, 2, 4, 8, 30)]
    assert all(later <= earlier + 1e-4 for earlier, later in pairwise(found))
    assert found[-1] < 0.9 * found[0]


@BOTH
def test_a_history_is_solved_for_exactly(name: str) -> None:
    """No small change of a user's vector fits better, and the slope is nothing."""
    p, q = factors(taught(name, 4))
    least = objective(name, p, q)
    for user, e in np.ndindex(M, E):
        ends = []
        for step in (-1e-2, 1e-2):
            moved = p.copy()
            moved[user, e] += step
            ends.append(objective(name, moved, q))
        assert min(ends) > least
        bend = sum(ends) - 2 * least
        assert abs(ends[1] - ends[0]) < 0.1 * bend + 1e-4


def test_a_middle_item_scores_between_the_target_s_and_the_rest() -> None:
    model = taught("vals", 30, embedding=8, ridge=0.01)
    scores = model.score(model.encode(GIVEN.histories(np.arange(M))), GIVEN.histories(np.arange(M)))
    means = [float(scores.numpy()[cells].mean()) for cells in (TARGET, BETWEEN, NEITHER)]
    assert means == sorted(means, reverse=True)
    assert means[1] - means[2] > 0.1


def test_without_middle_items_vals_is_eals() -> None:
    alone = GIVEN.only(("keep",))
    found = []
    for name in ("eals", "vals"):
        torch.manual_seed(3)
        model = make(name, {"embedding": E, "sweeps": 3}, Shape(M, N, alone.behaviors))
        model.learn(alone)
        found.append(model.state_dict()["item"])
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_popular_items_weigh_more_where_they_are_missing() -> None:
    model = taught("eals", 1)
    assert isinstance(model, eals.EALS)
    popular = X["eals"].sum(0)
    share = model.missing.numpy() ** 2
    assert np.allclose(share / share.max(), popular / popular.max())
    assert model.missing.sum().item() == pytest.approx(MISSING, rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"embedding": 0}, {"sweeps": 0}, {"ridge": 0.0}, {"missing": -1.0}, {"exponent": 1.5}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    for config in (eals.Config, vals.Config):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            config(**wrong)


@pytest.mark.parametrize("wrong", [{"middle": -1.0}, {"gamma1": float("nan")}])
def test_margins_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        vals.Config(**wrong)
