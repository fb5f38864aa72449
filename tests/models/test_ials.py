"""iALS against its own equations, solved densely in double precision."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nmtr.data.records import CSR, Records
from nmtr.data.weighted import weighted_sum
from nmtr.errors import UsageError
from nmtr.models import ials, make
from nmtr.models.base import Model, Shape
from nmtr.models.kernels import ials as conjugate

M, N = 40, 18
NAMES = ("hold", "keep")
WEIGHTS = (0.5, 1.0)
RIDGE, ALPHA0, NU = 0.05, 0.1, 0.7
Floats = npt.NDArray[np.float64]


def random_records() -> Records:
    """Users with none to many records, in two groups of taste."""
    rng = np.random.default_rng(5)
    taste = 1.0 * (np.arange(M)[:, None] % 2 == np.arange(N) % 2) + 0.2
    wish = taste * np.linspace(0, 0.7, M)[:, None]
    sets = []
    for share in (0.8, 0.5):
        users, items = np.nonzero(rng.random((M, N)) < wish * share)
        sets.append(CSR.from_pairs(users, items, M, N))
    return Records(NAMES, tuple(sets))


RECORDS = random_records()
EVERYONE = RECORDS.histories(np.arange(M))
X: Floats = weighted_sum(RECORDS.sets, WEIGHTS).toarray().astype(np.float64)


def taught(sweeps: int, embedding: int = 4, ridge: float = RIDGE) -> Model:
    options = {"ridge": ridge, "alpha0": ALPHA0, "nu": NU, "weights": WEIGHTS, "sweeps": sweeps}
    torch.manual_seed(3)
    model = make("ials", options | {"embedding": embedding}, Shape(M, N, NAMES))
    model.learn(RECORDS)
    return model


def factors(model: Model) -> tuple[Floats, Floats]:
    state: dict[str, Any] = model.state_dict()
    return model.encode(EVERYONE).double().numpy(), state["item"].double().numpy()


def importance(x: Floats) -> Floats:
    """(rows,) how much more a row is shrunk."""
    weight: Floats = (x.sum(1) + ALPHA0 * x.shape[1]) ** NU
    return weight


def solved(x: Floats, other: Floats) -> Floats:
    """(rows, E) one half of a sweep, row by row."""
    found = np.zeros((len(x), other.shape[1]))
    for row, f in enumerate(importance(x)):
        left = other.T @ (x[row][:, None] * other) + ALPHA0 * other.T @ other
        found[row] = np.linalg.solve(left + RIDGE * f * np.eye(other.shape[1]), other.T @ x[row])
    return found


def objective(user: Floats, item: Floats) -> float:
    product = user @ item.T
    shrunk = importance(X) @ (user**2).sum(1) + importance(X.T) @ (item**2).sum(1)
    fit = (X * (product - 1) ** 2).sum() + ALPHA0 * (product**2).sum()
    return float(fit + RIDGE * shrunk)


@pytest.mark.parametrize("embedding", [3, 8, 64])
@pytest.mark.parametrize(("steps", "cells"), [(64, 1_000_000), (2, 1_000_000), (0, 1)])
def test_a_history_is_solved_for_exactly_be_it_shorter_or_longer_than_the_factors(
    embedding: int, steps: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By conjugate gradients, or where those take too many steps, by Cholesky."""
    monkeypatch.setattr(conjugate, "STEPS", steps)
    monkeypatch.setattr(ials, "BLOCK_CELLS", cells)
    user, item = factors(taught(3, embedding))
    some = X.sum(1) > 0
    assert np.count_nonzero(X[some] > 0, 1).min() <= 3
    assert np.count_nonzero(X, 1).max() > 8
    assert np.allclose(user[some], solved(X, item)[some], rtol=1e-3, atol=1e-5)


def test_the_objective_never_rises_from_sweep_to_sweep() -> None:
    found = [objective(*factors(taught(sweeps))) for sweeps in (1, 2, 3, 5, 8, 20)]
    assert all(later <= earlier + 1e-5 for earlier, later in pairwise(found))
    assert found[-1] < objective(np.zeros((M, 1)), np.zeros((N, 1))), "all-zero factors fit worse"


def test_it_is_the_plain_algorithm_in_double_precision() -> None:
    torch.manual_seed(3)
    item = torch.empty(N, 4).normal_(0, 0.1 / 4**0.5).double().numpy()
    for _ in range(5):
        item = solved(X.T, solved(X, item))
    expected = solved(X, item) @ item.T
    user, own = factors(taught(5))
    some = X.sum(1) > 0
    assert np.allclose((user @ own.T)[some], expected[some], atol=1e-3)


def test_two_tastes_are_told_apart() -> None:
    user, item = factors(taught(16))
    likes = np.arange(M)[:, None] % 2 == np.arange(N) % 2
    some = X.sum(1) > 0
    product = (user @ item.T)[some]
    assert product[likes[some]].mean() > 2 * product[~likes[some]].mean()


@pytest.mark.parametrize("embedding", [1, 6, 33])
def test_conjugate_gradients_agree_with_cholesky_or_say_that_they_do_not(embedding: int) -> None:
    rng = np.random.default_rng(embedding)
    x = weighted_sum(RECORDS.sets, WEIGHTS)
    other = rng.normal(0, 1, (N, embedding)).astype(np.float32)
    spread = rng.uniform(0.01, 3, embedding).astype(np.float32)
    model = make("ials", {"embedding": embedding}, Shape(M, N, NAMES))
    assert isinstance(model, ials.IALS)
    for least in (1e-2, 1, 100):
        shrink = rng.uniform(least, 2 * least, M).astype(np.float32)
        given = torch.from_numpy(other), torch.from_numpy(spread), shrink
        expected = model.solve_exactly(x, *given).numpy()
        found, solved = conjugate.conjugate_gradients(x, other, spread, shrink)
        assert solved.all()
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-5)
    wrong = np.full(M, np.nan, np.float32)
    solved = conjugate.conjugate_gradients(x, other, spread, wrong)[1]
    assert np.array_equal(solved, np.zeros(M, np.bool_))


def test_threads_solve_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conjugate, "LEAST", 10)
    before, found = torch.get_num_threads(), {}
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found[threads] = factors(taught(2))[1]
    torch.set_num_threads(before)
    assert np.array_equal(found[1], found[3])


def test_a_ridge_too_small_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="the ridge is too small"):
        taught(2, 30, ridge=1e-30)
