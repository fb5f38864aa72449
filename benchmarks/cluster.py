"""The rates behind docs/cluster.md: what a step costs, what it moves, what tables take.

    python benchmarks/cluster.py rates 1e5 1e6 1e7 1e8      # one process
    torchrun --nproc-per-node 2 benchmarks/cluster.py step 1e6
    python benchmarks/cluster.py recall model.nmtr          # two stages against exact ranking

Costs are seconds of CPU, which a busy machine disturbs less than it does the clock. The records are
made here: users of 33 pairs each on 10^5 items, or a tenth of the events where that is fewer.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from nmtr.data.records import CSR, LabelledPairs, Records
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.models.nmtr import NMTR
from nmtr.models.units import gmf_weights
from nmtr.serving.bundle import open_bundle
from nmtr.training.distributed import Group, joined
from nmtr.training.optim import make_optimizer
from nmtr.training.sampler import Sampler
from nmtr.training.trainer import Steps

PAIRS, ITEMS, EMBEDDING, NEGATIVES, BATCH, STEPS = 33, 100_000, 64, 4, 2048, 60
BEHAVIORS = ("view", "cart", "buy")


def sampler_of(events: int) -> Sampler:
    """Records of so many pairs, a tenth of which are bought."""
    users, items = max(events // PAIRS, 1), min(ITEMS, max(events // 10, PAIRS))
    rng = np.random.default_rng(0)
    block = items // PAIRS
    columns = np.arange(PAIRS, dtype=np.int32) * block
    indices = (columns + rng.integers(0, block, (users, PAIRS), np.int32)).reshape(-1)
    indptr = np.arange(users + 1, dtype=np.int64) * PAIRS
    bits = np.where(rng.random(len(indices), np.float32) < 0.1, 7, 1).astype(np.uint32)
    pairs = LabelledPairs(CSR(indptr, indices, items), bits, len(BEHAVIORS))
    return Sampler(pairs, (NEGATIVES,) * len(BEHAVIORS), "unobserved", BATCH, 0)


def steps_of(sampler: Sampler, group: Group, unit: str = "gmf") -> Steps:
    """The training of a new model on them, as the trainer has it."""
    torch.manual_seed(0)
    set_ = sampler.pairs.pairs
    options = {"unit": unit, "embedding": EMBEDDING}
    model = make("nmtr", options, Shape(set_.n_rows, set_.n_columns, BEHAVIORS))
    optimizer = make_optimizer("adagrad", model.named_parameters(), rate=0.05)
    return Steps(optimizer, model, sampler, torch.device("cpu"), group)


def timed(steps: Steps) -> tuple[float, float]:
    """Seconds of CPU that an epoch takes before its first step, and each step after."""
    losses = steps.losses(0)
    began = time.process_time()
    next(losses)
    first = time.process_time()
    made = sum(1 for _ in zip(range(STEPS), losses, strict=False))
    each = (time.process_time() - first) / max(made, 1)
    return first - began - each, each


def rates(sizes: list[int]) -> None:
    """A line for each size."""
    warm = steps_of(sampler_of(20_000), Group())
    timed(warm)
    print("| pairs | users | step, ms | epoch start, s | epoch, s | MiB, peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in sizes:
        sampler = sampler_of(size)
        start, each = timed(steps_of(sampler, Group()))
        users, epoch = sampler.pairs.pairs.n_rows, start + each * sampler.steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        costs = f"{1000 * each:.2f} | {start:.2f} | {epoch:.1f}"
        print(f"| {size:,} | {users:,} | {costs} | {peak:,.0f} |", flush=True)


def step(size: int) -> None:
    """What a step costs each process of a group, by unit and batch, and the bytes it gathers."""
    with joined() as group:
        for unit, batch in (("gmf", 2048), ("gmf", 16384), ("neumf", 2048)):
            made = sampler_of(size)
            sampler = Sampler(made.pairs, made.negatives, made.rule, batch, 0)
            timed(steps_of(sampler, group, unit))
            _, each = timed(steps_of(sampler, group, unit))
            began = time.process_time()
            drawn = [len(batch) for batch, _ in zip(sampler.epoch(0), range(STEPS), strict=False)]
            drawing = (time.process_time() - began) / len(drawn)
            if dist.is_initialized():
                dist.barrier()
            if group.first:
                what = f"{unit}, {batch} pairs ({drawn[0]} rows), {group.world} process(es)"
                costs = f"{1000 * each:.2f} ms, of which drawing {1000 * drawing:.2f} ms"
                print(f"{what}: a step costs each process {costs}", flush=True)


def recall(path: Path) -> None:
    """Of the exact best 100, how many are among the best C by the target's own unit alone."""
    bundle = open_bundle(path)
    model = bundle.model
    assert isinstance(model, NMTR)
    users = np.arange(0, bundle.data.n_users, max(bundle.data.n_users // 1000, 1))
    histories = Records(bundle.data.behaviors, bundle.data.sets).histories(users)
    with torch.no_grad():
        state = model.encode(histories)
        exact = model.score(state, histories).topk(100, dim=1).indices
        h = gmf_weights(model.units, model.item)[-1]
        cheap = state @ (model.item * h).T + model.bias[:, -1]
        print(f"{path}: {len(users)} users, {model.shape.n_items} items")
        for count in (100, 150, 200, 400, 800):
            found = cheap.topk(count, dim=1).indices
            hits = (exact[:, :, None] == found[:, None, :]).any(2).float().mean()
            print(f"candidates {count}: recall@100 {float(hits):.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, *given = sys.argv[1:]
    if command == "rates":
        rates([int(float(each)) for each in given])
    elif command == "step":
        step(int(float(given[0])))
    else:
        recall(Path(given[0]))
