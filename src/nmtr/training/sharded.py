"""Tables larger than one device: each process holds some rows, and their optimiser state.

The rows lie as torch's distributed tensors have them, in blocks. A batch fetches the rows that it
meets from whoever holds them, and its gradients go back there, where they are added up: what moves
is as small as the batch, whatever the tables hold.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from nmtr.data.records import Histories
from nmtr.errors import UsageError
from nmtr.models.embeddings import sparse_rows
from nmtr.models.nmtr import NMTR
from nmtr.training.distributed import Group, divided

TABLES = ("user", "item", "bias")


def shard(model: NMTR, group: Group) -> None:
    """Divide a model's tables among the processes of a group, in place; make its optimiser after.

    Raises UsageError where the model would look rows up in a way of its own.
    """
    if not model.user.is_cpu or model.config.activation != "relu" or model.config.dropout:
        raise UsageError("tables are divided where the loss is compiled: on CPUs, relu, no dropout")
    for name in TABLES:
        table = getattr(model, name)
        lookup = Lookup(group, len(table))
        own = nn.Parameter(table.detach()[lookup.low : lookup.high].clone())
        own.lookup = lookup  # type: ignore[attr-defined]
        setattr(model, name, own)


def gathered(model: NMTR) -> dict[str, Tensor]:
    """The model's whole state in every process, as an undivided one would have it."""
    named = {**model.state_dict(), **dict(model.named_parameters())}
    return {
        name: distributed(each).full_tensor() if divided(each) else each.detach()
        for name, each in named.items()
    }


def distributed(table: Tensor) -> DTensor:
    """A divided table as torch's distributed tensor, for what torch can do with those."""
    lookup: Lookup = table.lookup  # type: ignore[attr-defined]
    mesh = init_device_mesh(table.device.type, (lookup.group.world,))
    shape = torch.Size((lookup.rows, *table.shape[1:]))
    own = table.detach()
    return DTensor.from_local(own, mesh, [Shard(0)], shape=shape, stride=own.stride())


@torch.no_grad()
def scores(model: NMTR, group: Group, histories: Histories) -> Tensor:
    """(B, N) scores of the target, in every process; each scores the items that it holds."""
    rows, places = torch.unique(torch.as_tensor(histories.users), return_inverse=True)
    lookup: Lookup = model.user.lookup  # type: ignore[attr-defined]
    own = model.score(lookup(model.user, rows)[places], histories).T.contiguous()
    sizes = Lookup(group, model.shape.n_items).sizes()
    padded = torch.cat([own, own.new_zeros(max(sizes) - len(own), own.shape[1])])
    found = group.gather(padded)
    return torch.cat([each[:n] for each, n in zip(found, sizes, strict=True)]).T


class Lookup:
    """Where the rows of a table are, and the way there and back."""

    def __init__(self, group: Group, rows: int) -> None:
        self.group, self.rows = group, rows
        self.block = -(-rows // group.world)
        self.low, self.high = (min(self.block * (group.rank + n), rows) for n in (0, 1))

    def sizes(self) -> list[int]:
        """How many rows each process holds."""
        starts = (self.block * rank for rank in range(self.group.world))
        return [max(min(self.rows - start, self.block), 0) for start in starts]

    def __call__(self, table: Tensor, rows: Tensor) -> Tensor:
        """table[rows] for distinct, ascending rows (n,) of the whole table."""
        fetched: Tensor = _Fetch.apply(table, rows, self)  # type: ignore[no-untyped-call]
        return fetched

    def ask(self, rows: Tensor) -> tuple[Tensor, list[int], list[int]]:
        """The rows that others want of this process; how many each, and how many it wants."""
        wanted = torch.bincount(rows // self.block, minlength=self.group.world)
        given = torch.empty_like(wanted)
        dist.all_to_all_single(given, wanted)
        mine, theirs = wanted.tolist(), given.tolist()
        asked = rows.new_empty(sum(theirs))
        dist.all_to_all_single(asked, rows, theirs, mine)
        return asked - self.low, theirs, mine


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        table, rows, lookup = inputs
        asked, theirs, mine = lookup.ask(rows)
        found: Tensor = table.new_empty((len(rows), *table.shape[1:]))
        dist.all_to_all_single(found, table[asked], mine, theirs)
        ctx.shape, ctx.asked, ctx.counts = table.shape, asked, (theirs, mine)
        return found

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        theirs, mine = ctx.counts
        grads = outputs[0].new_empty((len(ctx.asked), *ctx.shape[1:]))
        dist.all_to_all_single(grads, outputs[0].contiguous(), theirs, mine)
        rows, places = torch.unique(ctx.asked, return_inverse=True)
        added = torch.zeros_like(grads[: len(rows)]).index_add_(0, places, grads)
        return sparse_rows(rows, added, ctx.shape), None, None
