"""What training costs as a log grows, and what a second process adds: the rates of docs/cluster.md.

    python benchmarks/cluster.py [--pairs 1e5 1e6 1e7 1e8] [--step 1e6] [--processes 1 2]
                                 [--out FOLDER] [--table]

Every number is taken in processes of its own, of one thread each, in seconds of CPU, which a busy
machine disturbs less than it does the clock. The records are made here: users of 33 pairs each, a
tenth of them bought, on 10^5 items, or a tenth of the pairs where that is fewer. --pairs: an epoch
of nmtr-gmf, E = 64, as the trainer would draw it; its beginning and 60 steps are timed. --step: a
step by unit and batch, in one process and under torchrun in several, and what gradients it moves.
Writes cluster.csv and cluster.md into the results; --table only writes the last again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import tables
from harness.machine import machine
from harness.measurements import Measurement, read, write
from harness.places import RESULTS

PAIRS, ITEMS, EMBEDDING, NEGATIVES, BATCH, STEPS = 33, 100_000, 64, 4, 2048, 60
BEHAVIORS = ("view", "cart", "buy")
KINDS = (("gmf", 2048), ("gmf", 16384), ("neumf", 2048))
MIB = 2**20
Found = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=float, nargs="*", default=[1e5, 1e6, 1e7, 1e8])
    parser.add_argument("--step", type=float, nargs="*", default=[1e6])
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        kind, size = given.work
        found = epoch(int(float(size))) if kind == "epoch" else step(int(float(size)))
        if found:
            print(json.dumps(found))
        return
    kept = read(given.out / "cluster.csv")
    todo = [("epoch", int(each), 1) for each in given.pairs]
    todo += [("step", int(each), n) for each in given.step for n in given.processes]
    for kind, size, processes in [] if given.table else todo:
        task = f"{kind}, {size:,} pairs" + (f", {processes} process(es)" if kind == "step" else "")
        kept = [each for each in kept if each.task != task]
        kept += measured(task, kind, size, processes)
        write(given.out / "cluster.csv", kept)
    (given.out / "cluster.md").write_text(page(kept, machine()))


def measured(task: str, kind: str, size: int, processes: int) -> list[Measurement]:
    """What processes of their own find."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    load = os.getloadavg()[0]
    done = subprocess.run(
        [*command, "--work", kind, str(size)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Measurement(task, "", "ours", 1, 1, "failed", reason[:200])]
    numbers: Found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({task: numbers}), flush=True)
    return [
        Measurement(task, who, "ours", 1, 1, *each)
        for who, own in numbers.items()
        for each in {**own, "load": load}.items()
    ]


def records_of(pairs: int) -> Any:
    """Records of so many pairs, a tenth of which are carted and bought."""
    import numpy as np

    from nmtr.data.records import CSR, Records

    users, items = max(pairs // PAIRS, 1), min(ITEMS, max(pairs // 10, PAIRS))
    rng = np.random.default_rng(0)
    block = items // PAIRS
    columns = np.arange(PAIRS, dtype=np.int32) * block
    indices = columns + rng.integers(0, block, (users, PAIRS), np.int32)
    indptr = np.arange(users + 1, dtype=np.int64) * PAIRS
    bought = rng.random((users, PAIRS), np.float32) < 0.1
    few = np.concatenate([[0], np.cumsum(bought.sum(1))])
    chosen = CSR(few, indices[bought], items)
    return Records(BEHAVIORS, (CSR(indptr, indices.reshape(-1), items), chosen, chosen))


def steps_of(sampler: Any, records: Any, group: Any, unit: str = "gmf") -> Any:
    """The training of a new model on them, as the trainer has it."""
    import torch

    from nmtr.models import make
    from nmtr.models.base import Shape
    from nmtr.training.optim import make_optimizer
    from nmtr.training.trainer import Steps

    torch.manual_seed(0)
    options = {"unit": unit, "embedding": EMBEDDING}
    model = make("nmtr", options, Shape(records.n_users, records.n_items, BEHAVIORS))
    optimizer = make_optimizer("adagrad", model.named_parameters(), rate=0.05)
    return Steps(optimizer, model, sampler, torch.device("cpu"), group)


def drawn_from(records: Any, batch: int = BATCH) -> Any:
    """What the trainer would draw from: all pairs, or windows of a large log."""
    from nmtr.models import make
    from nmtr.models.base import Shape
    from nmtr.training.trainer import Training, batches

    like = make("nmtr-gmf", {"embedding": 1}, Shape(records.n_users, records.n_items, BEHAVIORS))
    return batches(like, records, Training(batch_size=batch, negatives=(NEGATIVES,)))


def timed(losses: Iterator[float]) -> tuple[float, float]:
    """Seconds of CPU before the first step, and of each step after it."""
    began = time.process_time()
    next(losses)
    first = time.process_time()
    made = sum(1 for _ in zip(range(STEPS), losses, strict=False))
    each = (time.process_time() - first) / max(made, 1)
    return first - began - each, each


def epoch(size: int) -> Found:
    """What an epoch costs, from its beginning and some of its steps."""
    import torch

    from nmtr.training.distributed import Group

    torch.set_num_threads(1)
    warm = records_of(20_000)
    timed(steps_of(drawn_from(warm), warm, Group()).losses(0))
    records = records_of(size)
    sampler = drawn_from(records)
    start, each = timed(steps_of(sampler, records, Group()).losses(0))
    windows = len(getattr(sampler, "windows", [0]))
    return {
        "epoch": {
            "users": records.n_users, "items": records.n_items, "step_cpu_ms": 1000 * each,
            "start_cpu_seconds": start, "windows": windows,
            "epoch_cpu_seconds": windows * start + sampler.steps * each,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    }  # fmt: skip


def step(size: int) -> Found:
    """What a step costs each process, how much of it is drawing, and what the batch meets."""
    import torch
    import torch.distributed as dist

    from nmtr.training.distributed import joined

    torch.set_num_threads(1)
    found: Found = {}
    with joined() as group:
        for unit, batch in KINDS:
            records = records_of(size)
            sampler = drawn_from(records, batch)
            timed(steps_of(sampler, records, group, unit).losses(0))
            clock = time.perf_counter()
            _, each = timed(steps_of(sampler, records, group, unit).losses(0))
            clock = (time.perf_counter() - clock) / (STEPS + 1)
            began = time.process_time()
            some = [each for each, _ in zip(sampler.epoch(0), range(STEPS), strict=False)]
            drawing = (time.process_time() - began) / len(some)
            if dist.is_initialized():
                dist.barrier()
            found[f"{unit}, {batch:,} pairs"] = {
                "step_cpu_ms": 1000 * each, "step_clock_ms": 1000 * clock,
                "drawing_cpu_ms": 1000 * drawing, "rows": len(some[0]),
                "users_met": len(some[0].user.unique()), "items_met": len(some[0].item.unique()),
            }  # fmt: skip
        return found if group.first else {}


def moved(users: float, items: float) -> float:
    """Bytes of a step's gradients, all processes together: rows that it met, and which they are."""
    behaviors = len(BEHAVIORS)
    return users * (4 * EMBEDDING + 8) + items * (4 * (EMBEDDING + behaviors) + 16)


def page(found: list[Measurement], about: dict[str, str]) -> str:
    """The results as a page."""
    value = {
        (e.task, e.contestant, e.metric): float(e.value) for e in found if e.metric != "failed"
    }
    epochs, before = [], 0.0
    tasks = [each for each in dict.fromkeys(e.task for e in found) if each.startswith("epoch")]
    for task in sorted(tasks, key=pairs_of):
        own = {e.metric: value[task, "epoch", e.metric] for e in found if e.task == task}
        size = pairs_of(task)
        foretold = tables.short(10 * before) if before else "-"
        before = own["epoch_cpu_seconds"]
        epochs.append([
            f"{size:,}", f"{own['users']:,.0f}", f"{own['items']:,.0f}",
            tables.short(own["step_cpu_ms"]), tables.short(1000 * own["step_cpu_ms"] / BATCH),
            tables.short(own["windows"]), foretold, tables.short(before),
            tables.short(own["peak_mib"]), tables.short(own["load"]),
        ])  # fmt: skip
    lines = []
    for task, who in dict.fromkeys((e.task, e.contestant) for e in found):
        if not task.startswith("step") or (task, who, "step_cpu_ms") not in value:
            continue
        own = {e.metric: value[task, who, e.metric] for e in found
               if (e.task, e.contestant) == (task, who)}  # fmt: skip
        processes = int(task.split(", ")[-1].split()[0])
        alone = value.get((task.replace(f", {processes} ", ", 1 "), who, "step_cpu_ms"))
        ideal = tables.short(alone / (processes * own["step_cpu_ms"])) if alone else "-"
        megabytes = moved(own["users_met"], own["items_met"]) / 1e6
        lines.append([
            who, str(processes), tables.short(own["step_cpu_ms"]),
            tables.short(own["drawing_cpu_ms"]), ideal, tables.short(own["step_clock_ms"]),
            tables.short(megabytes), tables.short(own["load"]),
        ])  # fmt: skip
    kept = ("date", "cpu", "load", "python", "nmtr", "torch", "numba")
    of_epochs = ("pairs", "users", "items", "a step, CPU ms", "µs a pair", "windows",
                 "an epoch, CPU s: foretold", "measured", "peak MiB", "load")  # fmt: skip
    of_steps = ("unit and batch", "processes", "CPU ms a step, each", "of which drawing",
                "efficiency, CPU", "clock ms", "MB of gradients", "load")  # fmt: skip
    return f"""\
# Several processes

Written by `python benchmarks/cluster.py`, which says what was timed; one thread a process. The load
is the machine's in the minute before.

## An epoch as the log grows

Foretold is ten times the row above.

{tables.table(of_epochs, epochs)}

## A step

Efficiency is the CPU time of one process over that of all together: what waiting for each other
takes is in the clock's time alone, which means something where every process has a core.

{tables.table(of_steps, lines)}

Measured on {", ".join(f"{name} {about[name]}" for name in kept)}.
"""


def pairs_of(task: str) -> int:
    """1,000 of `epoch, 1,000 pairs`."""
    return int(task.split(", ", 1)[1].split()[0].replace(",", ""))


if __name__ == "__main__":
    main()
