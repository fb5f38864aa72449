"""Optimisers that touch only the rows that have a gradient, dense elsewhere.

A row-sparse gradient (embeddings.sparse_rows) updates its rows alone, so a step costs what the
batch met, not what the tables hold. For Adagrad and SGD that is exactly the dense update; for Adam
it is "lazy": a row's moments decay only when it is met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nmtr.models.base import Batch, Model, Pass
from nmtr.models.kernels import FAST
from nmtr.options import unknown

Floats = npt.NDArray[np.float32]


class Optimizer:
    """Base: holds named parameters and, for each, the state tensors that `slots` names."""

    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        rate: float,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.rate = rate
        self.shares = shares or {}
        self.steps = 0
        self.state = {
            f"{name}.{slot}": self.slot(each)
            for name, each in self.parameters.items()
            for slot in self.slots
        }

    def slot(self, parameter: Tensor) -> Tensor:
        """What a slot holds of a parameter at the start."""
        return torch.zeros_like(parameter, requires_grad=False)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient, then clear the gradients."""
        self.steps += 1
        for name, parameter in self.parameters.items():
            grad = parameter.grad
            if grad is None:
                continue
            parameter.grad = None
            slots = [self.state[f"{name}.{slot}"] for slot in self.slots]
            rate = self.rate * self.shares.get(name, 1.0)
            if not grad.is_sparse:
                self.update(parameter.data, grad, slots, rate)
                continue
            if not bool((grad._indices()[0].diff() > 0).all()):  # a row may stand there twice
                grad = grad.coalesce()
            rows, values = grad._indices()[0], grad._values()
            if not self.update_rows(parameter.data, rows, values, slots, rate):
                taken = [each[rows] for each in (parameter.data, *slots)]
                self.update(taken[0], values, taken[1:], rate)
                for whole, part in zip((parameter.data, *slots), taken, strict=True):
                    whole[rows] = part

    def update(self, parameter: Tensor, grad: Tensor, slots: list[Tensor], rate: float) -> None:
        """Move a dense parameter in place."""
        raise TypeError(f"{type(self).__name__} does not define update")

    def update_rows(
        self, table: Tensor, rows: Tensor, values: Tensor, slots: list[Tensor], rate: float
    ) -> bool:
        """Move rows in place by a faster way, where there is one; False where there is none."""
        return False

    def whole_step(self, model: Model) -> Pass | None:
        """What makes a batch's loss, gradient and step in one pass, where the model can."""
        return None

    def load(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Take up saved state."""
        self.steps = steps
        for name, each in self.state.items():
            each.copy_(state[name])


class SGD(Optimizer):
    """Plain stochastic gradient descent."""

    def update(self, parameter: Tensor, grad: Tensor, slots: list[Tensor], rate: float) -> None:
        parameter.sub_(grad, alpha=rate)


class Adagrad(Optimizer):
    """Element-wise Adagrad (Duchi et al. 2011)."""

    slots = ("squares",)
    epsilon = 1e-10

    def update(self, parameter: Tensor, grad: Tensor, slots: list[Tensor], rate: float) -> None:
        slots[0].addcmul_(grad, grad)
        parameter.addcdiv_(grad, slots[0].sqrt().add_(self.epsilon), value=-rate)

    def update_rows(
        self, table: Tensor, rows: Tensor, values: Tensor, slots: list[Tensor], rate: float
    ) -> bool:
        if not table.is_cpu or table.dtype != torch.float32:
            return False
        arrays = (table.numpy(), slots[0].numpy(), rows.numpy(), values.numpy())
        adagrad_rows(*arrays, rate, self.epsilon)
        return True

    def whole_step(self, model: Model) -> Pass | None:
        squares = {name: self.state[f"{name}.squares"] for name in self.parameters}
        made = None if self.shares else model.adagrad(squares, self.rate, self.epsilon)
        if made is None:
            return None

        def step(batch: Batch) -> float:
            self.steps += 1
            return made(batch)

        return step


class RowwiseAdagrad(Optimizer):
    """Adagrad with one sum for each row of a matrix, of the mean square of the row's gradient.

    As FBGEMM has it ("exact row-wise Adagrad"): of a table with E columns it keeps 1/E of what
    Adagrad keeps. Vectors have a sum for each element.
    """

    slots = ("squares",)
    epsilon = 1e-10

    def slot(self, parameter: Tensor) -> Tensor:
        rows = parameter.detach().flatten(1)[:, :1] if parameter.dim() > 1 else parameter
        return torch.zeros_like(rows, requires_grad=False)

    def update(self, parameter: Tensor, grad: Tensor, slots: list[Tensor], rate: float) -> None:
        sums = slots[0]
        square = grad.square()
        sums.add_(square.flatten(1).mean(1, keepdim=True) if grad.dim() > 1 else square)
        scale = sums.sqrt().add_(self.epsilon)
        parameter.addcdiv_(grad, scale.view(-1, *[1] * (grad.dim() - 1)), value=-rate)

    def update_rows(
        self, table: Tensor, rows: Tensor, values: Tensor, slots: list[Tensor], rate: float
    ) -> bool:
        if not table.is_cpu or table.dtype != torch.float32 or table.dim() != 2:
            return False
        arrays = (table.numpy(), slots[0].numpy(), rows.numpy(), values.numpy())
        rowwise_adagrad_rows(*arrays, rate, self.epsilon)
        return True


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), lazy on row-sparse gradients."""

    slots = ("mean", "square")
    betas = (0.9, 0.999)
    epsilon = 1e-8

    def update(self, parameter: Tensor, grad: Tensor, slots: list[Tensor], rate: float) -> None:
        mean, square = slots
        mean.lerp_(grad, 1 - self.betas[0])
        square.lerp_(grad * grad, 1 - self.betas[1])
        bias = [1 - beta**self.steps for beta in self.betas]
        scale = (square / bias[1]).sqrt_().add_(self.epsilon)
        parameter.addcdiv_(mean, scale, value=-rate / bias[0])


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adagrad": Adagrad,
    "adam": Adam,
    "rowwise-adagrad": RowwiseAdagrad,
    "sgd": SGD,
}


def make_optimizer(
    name: str,
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    rate: float,
    shares: Mapping[str, float] | None = None,
) -> Optimizer:
    """An optimiser by name; `shares`: what part of the rate some parameters take.

    Raises UsageError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](parameters, rate=rate, shares=shares)


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def adagrad_rows(
    table: Floats,
    squares: Floats,
    rows: npt.NDArray[np.int64],
    grads: Floats,
    rate: float,
    eps: float,
) -> None:
    """Adagrad on the rows that have a gradient, in one pass, in place."""
    rate32, eps32 = np.float32(rate), np.float32(eps)
    for n in range(len(rows)):
        row, total, grad = table[rows[n]], squares[rows[n]], grads[n]
        for e in range(len(row)):
            total[e] += grad[e] * grad[e]
            row[e] -= rate32 * grad[e] / (np.sqrt(total[e]) + eps32)


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def rowwise_adagrad_rows(
    table: Floats,
    sums: Floats,
    rows: npt.NDArray[np.int64],
    grads: Floats,
    rate: float,
    eps: float,
) -> None:
    """Row-wise Adagrad on the rows that have a gradient, in place; sums (rows of the table, 1)."""
    for n in range(len(rows)):
        row, grad, square = table[rows[n]], grads[n], np.float32(0)
        for e in range(len(row)):
            square += grad[e] * grad[e]
        sums[rows[n], 0] += square / np.float32(len(row))
        step = np.float32(rate) / (np.sqrt(sums[rows[n], 0]) + np.float32(eps))
        for e in range(len(row)):
            row[e] -= step * grad[e]
