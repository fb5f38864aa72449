"""What a log larger than these machines would cost, from the rates that were measured here.

    python benchmarks/plan.py [--events 1e9] [--users 1e8] [--items 1e6] [--out FOLDER]

Measures nothing: it reads scale.csv, cluster.csv and recall.csv, and writes plan.md beside them,
with what each rate foretold of the next measured point. docs/cluster.md quotes it.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import cluster
from harness import tables
from harness.measurements import read
from harness.places import RESULTS

CORES, BUSY = 16, 0.8  # of a machine; the share of them that is at work
EPOCHS = 30  # ten until validation chose, then fitted twice (calibration and refit)
CHECKED = 20_000  # users ranked by validation after an epoch of the first ten
E, R = cluster.EMBEDDING, len(cluster.BEHAVIORS)
BATCH, NEGATIVES = 65_536, cluster.NEGATIVES
WINDOW = 64 * 2**16  # records in memory while a large log trains (nmtr.training.windows)
GB, HOUR = 1e9, 3600
CANDIDATES = 2000


@dataclass(frozen=True)
class Rates:
    """What was measured."""

    value: dict[tuple[str, str, str], float]

    @classmethod
    def of(cls, folder: Path) -> Rates:
        found = [e for name in ("scale", "cluster", "recall") for e in read(folder / f"{name}.csv")]
        return cls({
            (e.task, e.contestant, e.metric): e.value
            for e in found if not isinstance(e.value, str)
        })  # fmt: skip

    def largest(self, metric: str, *, task: str = "", contestant: str = "") -> tuple[int, float]:
        """The measurement of the largest log, or of most items, and its size."""
        found = {
            number(f"{t}, {c}"): each
            for (t, c, m), each in self.value.items()
            if m == metric and t.startswith(task) and c.startswith(contestant)
        }
        size = max(found)
        return size, found[size]

    def of_items(self, items: int, contestant: str, metric: str) -> float:
        """A measurement of recall.py at so many items."""
        return self.value[f"{items:,} items", contestant, metric]


def number(text: str) -> int:
    """The first number of more than four digits, such as 1000000 of `nmtr, 1,000,000 events`."""
    words = [each.replace(",", "") for each in text.split()]
    return next((int(each) for each in words if each.isdigit() and len(each) > 4), 0)


def distinct(drawn: float, of: float) -> float:
    """How many of so many items a batch meets, that draws as often."""
    return of * (1 - math.pow(1 - 1 / of, drawn))


def weights(users: float, items: float) -> float:
    """Bytes of the tables."""
    return 4 * (users * E + items * (E + R))


def memory(users: float, items: float, *, rowwise: bool) -> list[tuple[str, float]]:
    """What is in memory while nmtr-gmf is selected, in bytes."""
    whole = weights(users, items)
    return [
        ("weights", whole),
        ("the optimiser's", 4 * (users + 2 * items) if rowwise else whole),
        ("the best epoch's weights", whole),
        ("where each user's records begin", 8 * users * R),
        ("a window of records and its draw", 40 * WINDOW),
    ]


def page(rates: Rates, events: float, users: float, items: float) -> str:
    cores = CORES * BUSY
    size, seconds = rates.largest("cpu_seconds", task="prepare", contestant="nmtr, ")
    prepare = seconds / size * events
    small, large = (rates.value["prepare", f"nmtr, {each:,} events", "peak_gib"] * 2**30
                    for each in (10**7, 10**8))  # fmt: skip
    ids = [
        sum(rates.value["prepare", f"nmtr, {each:,} events", what] for what in ("users", "items"))
        for each in (10**7, 10**8)
    ]
    an_id = (large - small) / (ids[1] - ids[0])
    size, seconds = rates.largest("split_cpu_seconds", task="train")
    split = seconds / size * events
    pairs_at, milliseconds = rates.largest("step_cpu_ms", task="epoch")
    pair = milliseconds / 1000 / cluster.BATCH
    known = int(items)
    exact = rates.of_items(known, "exact ranking", "users_per_cpu_second")
    fast = rates.of_items(known, f"{CANDIDATES:,} candidates", "users_per_cpu_second")
    kept = rates.of_items(known, f"{CANDIDATES:,} candidates", "recall_100")
    met = distinct(BATCH * (1 + NEGATIVES), items)
    wire = cluster.moved(BATCH, met) / BATCH
    epoch = events * pair / cores

    def training(machines: int, gigabits: float) -> float:
        moving = wire * 8 / gigabits / 1e9 * (machines - 1) / machines * events if gigabits else 0
        return EPOCHS * (epoch / machines + moving)

    def hours(seconds: float) -> str:
        return f"{tables.short(seconds / HOUR)} h"

    steps = [
        ("prepare, one thread", hours(prepare), f"{an_id:.0f} bytes an id: "
         f"{tables.short(((users + items) * an_id + small) / GB)} GB; on disk the events twice, "
         f"{tables.short(events * 34 / GB)} GB"),
        ("split for validation, one thread", hours(split), "the records in a file that is mapped, "
         f"{tables.short(4 * 1.2 * events / GB)} GB"),
        (f"train, {EPOCHS} epochs, one machine", hours(training(1, 0)), "below"),
        ("the same, four machines, 10 Gbit/s", hours(training(4, 10)), "below, on each"),
        ("the same, four machines, 100 Gbit/s", hours(training(4, 100)), "below, on each"),
        (f"validation, {CHECKED:,} users, ten times", hours(10 * CHECKED / exact / cores), ""),
        ("rank all users exactly, one machine", hours(users / exact / cores), ""),
        (f"rank them by {CANDIDATES:,} candidates", hours(users / fast / cores),
         f"recall@100 of {kept:.3f}"),
    ]  # fmt: skip
    tables_of = []
    for rowwise in (False, True):
        parts = memory(users, items, rowwise=rowwise)
        tables_of.append([
            "row-wise Adagrad" if rowwise else "Adagrad",
            *(tables.short(each / GB) for _, each in parts),
            tables.short(sum(each for _, each in parts) / GB),
        ])  # fmt: skip
    names = [name for name, _ in memory(users, items, rowwise=True)]
    return f"""\
# The plan for {events:,.0f} events of {users:,.0f} users on {items:,.0f} items

Written by `python benchmarks/plan.py`, from what [scale](scale.md), [cluster](cluster.md) and
[recall](recall.md) measured. None of this was run. A machine has {CORES} cores, {BUSY:.0%} of them
at work; nmtr-gmf, E = {E}, {R} behaviours; rates are those of the largest log that was measured
({pairs_at:,} pairs: {tables.short(1e6 * pair)} µs of CPU a pair). An event counts as a pair, though
a log has fewer pairs than events.

{tables.table(("what", "time", "memory"), steps)}

Gradients, batches of {BATCH:,} pairs: a batch meets {met:,.0f} items, {tables.short(wire)} bytes a
pair, or {tables.short(wire * 8 / 10e9 * 1e6)} µs at 10 Gbit/s.

Memory of each training machine, GB:

{tables.table(("optimiser", *names, "together"), tables_of)}

## What the rates foretold

{tables.table(("what", "from", "foretold", "measured", "off by"), checks(rates))}
"""


def checks(rates: Rates) -> list[list[str]]:
    """Each measured point against ten times the one before it."""
    lines = []
    series = {
        "prepare, CPU s": ("prepare", "nmtr, {:,} events", "cpu_seconds"),
        "split, CPU s": ("train", "nmtr-gmf, {:,} events", "split_cpu_seconds"),
        "an epoch, CPU s": ("epoch, {:,} pairs", "epoch", "epoch_cpu_seconds"),
    }
    for name, key in series.items():
        for size in (10**6, 10**7, 10**8):
            task, contestant, metric = key
            before, now = (
                rates.value.get((task.format(each), contestant.format(each), metric))
                for each in (size // 10, size)
            )
            if before and now:
                off = f"{now / (10 * before) - 1:+.0%}"
                short = tables.short
                line = [name, f"{size // 10:,}", short(10 * before), short(now), off]
                lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, default=1e9)
    parser.add_argument("--users", type=float, default=1e8)
    parser.add_argument("--items", type=float, default=1e6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    text = page(Rates.of(given.out), given.events, given.users, given.items)
    (given.out / "plan.md").write_text(text)


if __name__ == "__main__":
    main()
