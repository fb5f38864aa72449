"""Optimisers against torch.optim, dense and by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nmtr.errors import UsageError
from nmtr.models.embeddings import sparse_rows, take_rows
from nmtr.training.optim import OPTIMIZERS, Optimizer, make_optimizer


class Rowwise:
    """Row-wise Adagrad as it is defined, in double precision."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        (self.parameter,) = parameters
        self.sums = torch.zeros(len(self.parameter), dtype=torch.float64)

    @torch.no_grad()
    def step(self) -> None:
        assert self.parameter.grad is not None
        grad = self.parameter.grad.double()
        self.sums += (grad**2).mean(1)
        move = 0.1 * grad / (self.sums.sqrt() + 1e-10)[:, None]
        self.parameter -= move.to(self.parameter.dtype)


TORCH: dict[str, Callable[[Iterable[Tensor]], Any]] = {
    "rowwise-adagrad": Rowwise,
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
}
ROWS, WIDTH = 11, 3


def table(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    start = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed))
    return nn.Parameter(start.to(dtype))


def steps(n: int = 12, *, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    """Ascending rows and a gradient for each; some gradients are zero, some tiny, some large."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for at in range(n):
        rows = torch.randperm(ROWS, generator=generator)[: 1 + at % 5].sort().values
        values = torch.randn(len(rows), WIDTH, generator=generator) * 10.0 ** (at % 7 - 4)
        values[0, 0] = 0
        found.append((rows, values.to(dtype)))
    return found


def dense(rows: Tensor, values: Tensor) -> Tensor:
    whole = torch.zeros(ROWS, *values.shape[1:], dtype=values.dtype)
    whole[rows] = values
    return whole


def optimizer(name: str, *parameters: nn.Parameter, rate: float = 0.1) -> Optimizer:
    return make_optimizer(name, [(f"p{n}", each) for n, each in enumerate(parameters)], rate=rate)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_dense_step_is_torch_s(name: str) -> None:
    mine, theirs = table(), table()
    ours, reference = optimizer(name, mine), TORCH[name]([theirs])
    for rows, values in steps():
        mine.grad, theirs.grad = dense(rows, values), dense(rows, values)
        ours.step()
        reference.step()
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adagrad", "rowwise-adagrad", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_sparse_step_is_the_dense_one(name: str, dtype: torch.dtype) -> None:
    mine, theirs = table(dtype=dtype), table(dtype=dtype)
    ours, reference = optimizer(name, mine), TORCH[name]([theirs])
    for rows, values in steps(dtype=dtype):
        untouched = mine.detach().clone()
        mine.grad = sparse_rows(rows, values, mine.shape)
        theirs.grad = dense(rows, values)
        ours.step()
        reference.step()
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
        others = [row for row in range(ROWS) if row not in rows.tolist()]
        assert torch.equal(mine[others], untouched[others])
        assert mine.grad is None


def test_row_wise_adagrad_keeps_one_number_for_a_row() -> None:
    bias = nn.Parameter(torch.zeros(ROWS))
    ours = optimizer("rowwise-adagrad", table(), bias)
    assert {name: tuple(each.shape) for name, each in ours.state.items()} == {
        "p0.squares": (ROWS, 1), "p1.squares": (ROWS,),
    }  # fmt: skip
    bias.grad = torch.linspace(0, 1, ROWS)
    ours.step()
    assert torch.allclose(bias[1:], torch.full((ROWS - 1,), -0.1))


def test_lazy_adam_is_adam_where_every_row_is_met() -> None:
    mine, theirs = table(), table()
    ours, reference = optimizer("adam", mine), TORCH["adam"]([theirs])
    for seed in range(8):
        grad = table(seed).detach()
        mine.grad = sparse_rows(torch.arange(ROWS), grad, mine.shape)
        theirs.grad = grad.clone()
        ours.step()
        reference.step()
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_lazy_adam_leaves_the_rows_and_moments_that_were_not_met() -> None:
    mine = table()
    ours = optimizer("adam", mine)
    mine.grad = sparse_rows(torch.tensor([2]), torch.ones(1, WIDTH), mine.shape)
    ours.step()
    before = {name: each.clone() for name, each in ours.state.items()}
    start = mine.detach().clone()
    mine.grad = sparse_rows(torch.tensor([5]), torch.ones(1, WIDTH), mine.shape)
    ours.step()
    assert torch.equal(mine[2], start[2])
    assert not torch.equal(mine[5], start[5])
    assert all(torch.equal(before[name][2], each[2]) for name, each in ours.state.items())


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_row_that_stands_twice_in_a_gradient_moves_by_the_sum(name: str) -> None:
    mine, theirs = table(), table()
    twice = torch.tensor([[4, 1, 4]])
    values = torch.arange(9.0).view(3, 3) + 1
    mine.grad = torch.sparse_coo_tensor(twice, values, mine.shape, check_invariants=True)
    theirs.grad = sparse_rows(
        torch.tensor([1, 4]), torch.stack([values[1], values[0] + values[2]]), theirs.shape
    )
    optimizer(name, mine).step()
    optimizer(name, theirs).step()
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_parameter_without_gradient_stays(name: str) -> None:
    moved, still = table(1), table(2)
    before = still.detach().clone()
    ours = optimizer(name, moved, still)
    moved.grad = torch.ones_like(moved)
    ours.step()
    assert torch.equal(still, before)
    assert not torch.equal(moved, table(1))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_saved_state_goes_on_as_if_never_stopped(name: str) -> None:
    through, first = table(), table()
    whole, half = optimizer(name, through), optimizer(name, first)
    gradients = steps(8)
    for at, (rows, values) in enumerate(gradients):
        if at == 4:
            saved = {key: each.clone() for key, each in half.state.items()}
            resumed = optimizer(name, first)
            resumed.load(saved, steps=half.steps)
            half = resumed
        through.grad = sparse_rows(rows, values, through.shape)
        first.grad = sparse_rows(rows, values.clone(), first.shape)
        whole.step()
        half.step()
    assert torch.equal(through, first)


def test_rows_taken_give_back_a_gradient_of_those_rows() -> None:
    mine, theirs = table(), table()
    rows = torch.tensor([0, 3, 7])
    weights: Any = torch.randn(3, WIDTH)
    (take_rows(mine, rows) * weights).sum().backward()
    (theirs[rows] * weights).sum().backward()
    assert mine.grad is not None
    assert theirs.grad is not None
    assert mine.grad.is_sparse
    assert mine.grad._indices().tolist() == [[0, 3, 7]]
    assert torch.equal(mine.grad.to_dense(), theirs.grad)


def test_an_unknown_optimiser_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="'adamw'; did you mean 'adam'"):
        optimizer("adamw", table())
