"""The roofline: what the machine can do, what our kernels must do, and the share they reach.

    python benchmarks/roofline.py [--quick] [--out FOLDER]

Writes roofline.csv and roofline.md into the results. What was reached is taken from the tasks'
results in the same folder, so run those first.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import data, operations, tables
from harness.contest import Contestant, run
from harness.measurements import FAILED, Summary, by_round, read
from harness.operations import Roof, Work
from harness.places import RESULTS, WORK
from harness.preparation import prepare
from harness.programme import TASKS
from harness.roster import FACTORS, LAYERS, Roster
from harness.tasks import QUICK, Scale, Task

from nmtr.data.interactions import load

MODELS: dict[str, tuple[int, ...]] = {"nmtr-gmf": (), "nmtr-neumf": LAYERS}
THREADS = (1, 2)
Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Kernel:
    """One kernel on its log; per: what the task counts in a second, in samples or pairs."""

    name: str
    task: str
    model: str
    work: Work
    per: float = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    scale = QUICK if given.quick else Scale()
    out = given.out or (WORK / "quick" if given.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    roster = Roster(scale)
    machine = {threads: measure(_machine(roster, threads)) for threads in THREADS}
    roofs = {n: Roof(each["float32_flops"], each["copy_bytes"]) for n, each in machine.items()}
    roof = roofs[THREADS[-1]]
    reached = {
        each.name: attainment(each, roof, rate_of(each, roster, out)) for each in kernels(roster)
    }
    write(out / "roofline.csv", machine, reached)
    text = section(machine, reached)
    (out / "roofline.md").write_text(text)
    print(text)


def _machine(roster: Roster, threads: int) -> Contestant:
    return roster.nmtr("machine", "rates", worker="machine", threads=threads)


def measure(contestant: Contestant) -> dict[str, float]:
    """A worker's numbers; raises RuntimeError where it has none."""
    found = run(contestant, box=600)
    if FAILED in found:
        raise RuntimeError(f"{contestant.name}: {found[FAILED]}")
    own = ("load_seconds", "peak_mib", "process_seconds")
    return {name: float(value) for name, value in found.items() if name not in own}


def kernels(roster: Roster) -> list[Kernel]:
    """The hot kernels, with what they meet on Beibei."""
    found: list[Kernel] = []
    data.ensure(roster.beibei.prepared)
    log = load(roster.beibei.prepared)
    N, R = log.n_items, len(log.behaviors)
    for model, layers in MODELS.items():
        how = {"worker": "counts", **roster.fitted(model)}
        counter = roster.own(model, "batch", "pruning", label=", counts", **how)
        prepare(Task("counts", "", "", "more", (counter,)))
        counts = measure(counter)
        size = (FACTORS, layers, R)
        unit = model.removeprefix("nmtr-")
        rows, met = counts["rows_per_sample"], counts["met_per_sample"]
        training = operations.training(*size, rows_per_sample=rows, met_per_sample=met)
        top = operations.ranking(*size, share=counts["top_share"])
        found.append(Kernel(f"train {model}", f"train-{unit}", model, training))
        found.append(Kernel(f"top 200, {model}", f"top-{unit}", model, top, N))
        if layers:
            rank = operations.ranking(*size, share=counts["rank_share"])
            found.append(Kernel(f"rank, {model}", f"rank-{unit}", model, rank, N))
            whole = operations.ranking(*size)
            found.append(Kernel(f"rank, {model}, without pruning", f"rank-{unit}", model, whole, N))
    return found


def attainment(kernel: Kernel, roof: Roof, rate: float | None) -> dict[str, float]:
    """A kernel's numbers, those of the rate reached only where there is one."""
    work = kernel.work
    found = {
        "operations each": work.operations,
        "bytes each": work.bytes,
        "bound by operations, M/s": roof.operations / work.operations / 1e6,
        "bound by bytes, M/s": roof.bytes / work.bytes / 1e6,
    }
    if rate is not None:
        reached = rate * work.operations
        found |= {"measured, M/s": rate / 1e6, "GFLOP/s": reached / 1e9}
        found["share of the operations' roof"] = reached / roof.operations
    return found


def rate_of(kernel: Kernel, roster: Roster, out: Path) -> float | None:
    """Samples or pairs a second that the task's results say."""
    metric = TASKS[kernel.task](roster).metric
    values = by_round(read(out / f"{kernel.task}.csv"), kernel.model, metric)
    summary = Summary.of(list(values.values()))
    return summary.median * kernel.per if summary else None


def write(path: Path, machine: Mapping[int, Numbers], reached: Mapping[str, Numbers]) -> None:
    """Every number in a line."""
    subjects = {f"machine, {threads} thread(s)": each for threads, each in machine.items()}
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["subject", "quantity", "value"])
        for subject, numbers in {**subjects, **reached}.items():
            writer.writerows((subject, name, f"{value:.4g}") for name, value in numbers.items())


def section(machine: Mapping[int, Numbers], reached: Mapping[str, Numbers]) -> str:
    """The roofline as a part of the results' page."""
    columns = max(reached.values(), key=len)
    lines = [
        [kernel, *(tables.short(each[name]) if name in each else "-" for name in columns)]
        for kernel, each in reached.items()
    ]
    head = ("threads", "float32, GFLOP/s", "bfloat16, GFLOP/s", "copy, GB/s")
    names = ("float32_flops", "bfloat16_flops", "copy_bytes")
    rates = [
        [str(threads), *(tables.short(each[name] / 1e9) for name in names)]
        for threads, each in machine.items()
    ]
    return f"""\
## Roofline

The best that torch reaches here with square matrix products, and with a copy (bytes read and
written) of what no cache holds:

{tables.table(head, rates)}

What a kernel must do for each labelled sample of training, or (user, item) pair of ranking
(`benchmarks/harness/operations.py` says how it is counted), and the share of the float32 rate on
{THREADS[-1]} threads that it reaches. Where the tables fit a cache, as Beibei's do, bytes are no
bound. Of ranking only the operations are counted that pruning leaves; in the line without pruning
all, so that a share above 1 is what it saves.

{tables.table(("kernel", *columns), lines)}
"""


if __name__ == "__main__":
    main()
