"""Several processes that train one model: each takes a part of every batch, all make the same step.

`torchrun` starts the processes, or Ray Train (nmtr.training.ray_engine); the group is torch's own,
gloo between CPUs and NCCL between GPUs. Gradients are added up exactly: dense ones in one
all-reduce, row-sparse ones by gathering the rows that each process met. Every process then holds
the gradient of the whole batch, and the weights stay alike without being sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from nmtr.errors import ElsewhereError, NmtrError, UsageError
from nmtr.models.base import Model

T = TypeVar("T")
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(hours=2)  # the first process ranks validation while the others wait for it
NONE, DENSE = -2, -1  # kinds of gradient; a row-sparse one is its number of rows


class LostError(NmtrError):
    """Another process of the group cannot be reached."""


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together; alone by default."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Group:
        """The process group that torch has been told of, if it has."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, prints and measures."""
        return self.rank == 0

    def decide(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        if self.world == 1:
            return make()
        made = [make() if self.first else None]
        with _reaching(self):
            dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def copy_first(self, tensors: Iterator[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        for each in tensors if self.world > 1 else ():
            with _reaching(self):
                dist.broadcast(each.detach(), src=0)

    def check_alike(self, model: Model) -> None:
        """Raise NmtrError unless every process holds the same weights."""
        if self.world == 1:
            return
        alike = (each.detach() for each in model.parameters() if not divided(each))
        sums = [float(each.double().sum()) for each in alike]
        found = self.gather(torch.tensor(sums, dtype=torch.float64))
        if not bool((found == found[0]).all()):
            raise NmtrError(
                "the processes' weights have come apart, which should not happen; are all machines "
                "of one kind, with one version of torch? Go on from the last checkpoint"
            )

    def gather(self, each: Tensor) -> Tensor:
        """(world, ...) every process's tensor; all of one shape."""
        found = [torch.empty_like(each) for _ in range(self.world)]
        with _reaching(self):
            dist.all_gather(found, each)
        return torch.stack(found)

    def share(self, rows: int) -> float:
        """This process's part of a batch of which it has so many rows; 1 alone."""
        if self.world == 1:
            return 1.0
        return rows / float(self.gather(torch.tensor([float(rows)])).sum())

    def merge(self, parameters: Mapping[str, nn.Parameter], loss: float) -> float:
        """Add up every process's gradients, and its part of the loss, which is returned.

        Tables that are divided among processes are left alone: their gradients are whole.
        """
        if self.world == 1:
            return loss
        named = [each for each in parameters.values() if not divided(each)]
        own = torch.tensor([loss, *(_kind(each.grad) for each in named)], dtype=torch.float64)
        said = self.gather(own)  # (world, 1 + parameters)
        counts = said[:, 1:].long()
        kinds = counts.amax(0).tolist()
        dense = [each for each, kind in zip(named, kinds, strict=True) if kind == DENSE]
        sparse = [n for n, kind in enumerate(kinds) if kind >= 0]
        if dense:
            self._add_dense(dense)
        if sparse:
            self._add_rows([named[n] for n in sparse], counts[:, sparse].clamp(min=0))
        return float(said[:, 0].sum())

    def _add_dense(self, parameters: list[nn.Parameter]) -> None:
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([each.reshape(-1) for each in grads])
        with _reaching(self):
            dist.all_reduce(flat)
        sizes = [each.numel() for each in parameters]
        for parameter, part in zip(parameters, torch.split(flat, sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def _add_rows(self, tables: list[nn.Parameter], counts: Tensor) -> None:
        """counts: (world, tables) the rows that each process met of each table."""
        widths = [each[0].numel() for each in tables]
        met = [_rows_of(each) for each in tables]
        rows = torch.cat([rows for rows, _ in met])
        values = torch.cat([values.reshape(-1) for _, values in met])
        lengths = (counts * torch.tensor(widths)).sum(1)
        every_row = self.gather(_padded(rows, int(counts.sum(1).max())))
        every_value = self.gather(_padded(values, int(lengths.max())))
        found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in tables]
        for process, its in enumerate(counts.tolist()):
            row = value = 0
            for (into_rows, into_values), n, width in zip(found, its, widths, strict=True):
                into_rows.append(every_row[process, row : row + n])
                part = every_value[process, value : value + n * width]
                into_values.append(part.view(n, width))
                row, value = row + n, value + n * width
        for table, (all_rows, all_values) in zip(tables, found, strict=True):
            values = torch.cat(all_values).view(-1, *table.shape[1:])
            grad = torch.sparse_coo_tensor(
                torch.cat(all_rows)[None], values, table.shape, check_invariants=False
            )
            table.grad = grad.coalesce()


def divided(table: Tensor) -> bool:
    """Whether a table's rows are divided among processes (nmtr.training.sharded)."""
    return hasattr(table, "lookup")


def _kind(grad: Tensor | None) -> int:
    if grad is None:
        return NONE
    return grad._values().shape[0] if grad.is_sparse else DENSE


def _rows_of(table: nn.Parameter) -> tuple[Tensor, Tensor]:
    """The rows of a table that have a gradient, and it."""
    if table.grad is None:
        return torch.empty(0, dtype=torch.int64, device=table.device), table.detach()[:0]
    return table.grad._indices()[0], table.grad._values()


def _padded(flat: Tensor, length: int) -> Tensor:
    return torch.cat([flat, flat.new_zeros(length - len(flat))])


@contextmanager
def _reaching(group: Group) -> Iterator[None]:
    """Say what a broken connection between processes means."""
    try:
        yield
    except RuntimeError as error:  # of gloo, NCCL and the store alike
        raise LostError(
            f"process {group.rank} of {group.world} has lost touch with another, which was killed, "
            f"or its machine is gone ({str(error).splitlines()[0]}); the same command goes on from "
            "the last checkpoint"
        ) from error


@contextmanager
def joined(device: str = "auto") -> Iterator[Group]:
    """Join the processes that `torchrun` has started, if it has; leave them at the end.

    The first process to fail says why, naming itself; the others raise ElsewhereError.
    """
    launched = [name for name in LAUNCHED if os.environ.get(name)]
    if len(launched) < len(LAUNCHED) or os.environ["WORLD_SIZE"] == "1":
        yield Group.current()
        return
    backend = "gloo"
    if torch.cuda.is_available() and device != "cpu":
        backend = "cpu:gloo,cuda:nccl"
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if place >= torch.cuda.device_count():
            raise UsageError(
                f"process {place} of this machine has no GPU of its own, which has "
                f"{torch.cuda.device_count()}; start as many processes, or --set device=cpu"
            )
        torch.cuda.set_device(place)
    store, rank, world = next(iter(rendezvous("env://", timeout=PATIENCE)))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    try:
        yield Group(rank, world)
        dist.barrier()
    except Exception as error:
        told = store.compare_set("nmtr/failed", "", str(rank)).decode()
        if told != str(rank):
            raise ElsewhereError(f"process {told} of {world} failed") from error
        if isinstance(error, NmtrError) and rank and not isinstance(error, LostError):
            raise type(error)(f"process {rank} of {world}: {error}") from error
        raise
    dist.destroy_process_group()
