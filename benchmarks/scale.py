"""What preparing, training and ranking cost as events, users and items grow: time and peak memory.

    python benchmarks/scale.py [--events 1000000 10000000] [--tables 10000 100000 1000000]
                               [--seconds 10] [--folder DISK] [--out FOLDER] [--table]

Every number is taken in a process of its own. A simulated log of each size, about 50 events a user
and 100 an item, is prepared beside Polars' bare group-bys of the same files, has a day appended,
and trains; above 10^7 events the log is of as many shops, with users and items of their own whose
ids are those of the first with another beginning. Tables of each size, as many users as items,
train and rank on made-up records. CPU seconds stand beside the clock's, since they mean something
on a busy machine too. Writes scale.csv, scale.md and scale.svg into the results; --table only
writes the last two again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import tables
from harness.machine import machine
from harness.measurements import Measurement, read, write
from harness.places import RESULTS, WORK

EVENTS_A_USER, EVENTS_AN_ITEM = 50, 100
SHOP = 10_000_000  # events of a simulated shop; a larger log is of several
BEHAVIORS = ("view", "cart", "buy")
OURS = "nmtr"
BY_USER, BY_PAIR = "group-by user", "group-by user, item, behaviour"
MODEL = {"embedding": 64}
Found = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--tables", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=10.0, help="of training, of ranking")
    parser.add_argument("--folder", type=Path, default=WORK / "scale", help="for logs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--work", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(worked(*given.work)))
        return
    found = read(given.out / "scale.csv")
    if not given.table:
        given.folder.mkdir(parents=True, exist_ok=True)
        for task, contestant, *work in programme(given):
            found = [e for e in found if (e.task, e.contestant) != (task, contestant)]
            found += measured(task, contestant, work)
            write(given.out / "scale.csv", found)
    (given.out / "scale.md").write_text(page(found, machine()))
    plot(found, given.out / "scale.svg")


def programme(given: argparse.Namespace) -> list[list[str]]:
    """Task, contestant, and what a process is to do for it."""
    todo: list[list[str]] = []
    for events in given.events:
        log, label = given.folder / f"log-{events}", f"{events:,} events"
        if not log.exists():
            subprocess.run([sys.executable, __file__, "--work", "simulate", str(events), str(log)],
                           check=True)  # fmt: skip
        data = given.folder / f"data-{events}"
        todo += [
            ["prepare", f"{OURS}, {label}", "prepare", str(log), str(data)],
            ["prepare", f"{BY_PAIR}, {label}", "by_pair", str(log)],
            ["prepare", f"{BY_USER}, {label}", "by_user", str(log)],
            ["append", f"a hundredth appended, {label}", "append", str(log), str(data)],
            ["train", f"nmtr-gmf, {label}", "train_log", str(data), str(given.seconds)],
        ]
    for size in given.tables:
        label = f"{size:,} users x {size:,} items"
        todo += [
            ["tables", f"train nmtr-gmf, {label}", "train", str(size), str(given.seconds)],
            [
                "tables",
                f"rank nmtr-gmf, {label}",
                "rank",
                "nmtr-gmf",
                str(size),
                str(given.seconds),
            ],
            ["tables", f"rank bpr, {label}", "rank", "bpr", str(size), str(given.seconds)],
        ]
    return todo


def measured(task: str, contestant: str, work: Sequence[str]) -> list[Measurement]:
    """What a process of its own finds."""
    command = [sys.executable, __file__, "--work", *work]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    threads = int(os.environ.get("POLARS_MAX_THREADS") or os.cpu_count() or 1)
    side = "peer" if contestant.startswith("group-by") else "ours"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Measurement(task, contestant, side, threads, 1, "failed", reason[:200])]
    numbers: Found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{task}: {contestant}: " + ", ".join(f"{k} {v:,.4g}" for k, v in numbers.items()),
        flush=True,
    )
    return [Measurement(task, contestant, side, threads, 1, *each) for each in numbers.items()]


def worked(name: str, *given: str) -> Found:
    """One measurement, in this process: what it found, the seconds it took, and its peak memory."""
    work: Callable[..., Found] = globals()[f"work_{name}"]
    wall, cpu = time.perf_counter(), time.process_time()
    found = work(*given)
    return {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    } | found


def work_simulate(events: str, log: str) -> Found:
    import polars as pl

    from nmtr.data.simulator import SimulatorConfig, simulate

    size = min(int(events), SHOP)
    users, items = size // EVENTS_A_USER, size // EVENTS_AN_ITEM
    simulate(SimulatorConfig(users=users, items=items, events=size), Path(log))
    shop = sorted(Path(log).glob("events-*.parquet"))
    for number in range(1, int(events) // SHOP):
        for each in shop:
            frame = pl.read_parquet(each).with_columns(
                pl.format("shop-{}-{}", pl.lit(number), "user_id").alias("user_id"),
                pl.col("item_id") + number * 10**9,
            )
            frame.write_parquet(Path(log) / f"events-{number:03d}-{each.stem[7:]}.parquet")
    return {}


def work_by_user(log: str) -> Found:
    import polars as pl

    found = pl.scan_parquet(f"{log}/events-*.parquet").group_by("user_id").agg(pl.len())
    return {"groups": found.collect(engine="streaming").height}


def work_by_pair(log: str) -> Found:
    import polars as pl

    keys, groups = ["user_id", "item_id", "behavior"], 0
    for shop in shops_of(log):
        frame = pl.scan_parquet(f"{log}/{shop}")
        found = frame.group_by(keys).agg(pl.len(), pl.col("timestamp").max())
        groups += found.collect(engine="streaming").height
    return {"groups": groups}


def shops_of(log: str) -> list[str]:
    """A pattern for the files of each shop: users have but one, so groups lie within shops.

    All groups of a large log at once would not fit in memory; apart they cost no more.
    """
    number = range(1, len(list(Path(log).glob("events-*-00000.parquet"))) + 1)
    return ["events-?????.parquet", *(f"events-{each:03d}-*.parquet" for each in number)]


def work_prepare(log: str, data: str) -> Found:
    from nmtr.data.events import ReadOptions
    from nmtr.data.outofcore import prepare_files

    how: dict[str, Any] = {"options": ReadOptions(behaviors=BEHAVIORS), "force": True}
    manifest = prepare_files([f"{log}/events-*.parquet"], data, behaviors=BEHAVIORS, **how)
    return {"events": manifest["events"], "users": manifest["users"], "items": manifest["items"]}


def work_append(log: str, data: str) -> Found:
    """Append a hundredth of the log's events, a day later, to a copy made of links."""
    import polars as pl

    from nmtr.data.appending import append

    copy, day = Path(f"{data}-with-a-day"), Path(f"{data}-day.parquet")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy, copy_function=os.link)
    pick = pl.int_range(pl.len()) % 100 == 7
    events = pl.scan_parquet(f"{log}/events-*.parquet").filter(pick)
    events.with_columns(pl.col("timestamp") + 61 * 86_400_000).sink_parquet(day)
    began = time.process_time()
    manifest = append(copy, [day])
    assert manifest is not None
    return {
        "events": manifest["appended"]["events"],
        "append_cpu_seconds": time.process_time() - began,
    }


def work_train_log(data: str, seconds: str) -> Found:
    """Open a prepared data set, split it, and train on what the split leaves."""
    from nmtr.data.interactions import load
    from nmtr.data.split import split

    cpu = time.process_time()
    records = split(load(data), fold="validation").train
    ready = time.process_time() - cpu
    split_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"split_cpu_seconds": ready, "split_peak_gib": split_peak} | trained(records, seconds)


def work_train(size: str, seconds: str) -> Found:
    return trained(made_up(int(size)), seconds)


def work_rank(name: str, size: str, seconds: str) -> Found:
    """The top 100 of users, all unseen items ranked."""
    import numpy as np

    from nmtr.evaluation.ranking import top

    records = made_up(int(size))
    model = model_of(name, records)
    order = np.random.default_rng(0).permutation(records.n_items).astype(np.uint64)
    users, begun, cpu = 0, time.perf_counter(), time.process_time()
    top(model, records.histories([0]), records.target.take(np.array([0])), k=100, tie_break=order)
    begun, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < float(seconds):
        chosen = np.arange(users, users + 64)
        top(model, records.histories(chosen), records.target.take(chosen), k=100, tie_break=order)
        users += 64
    spent = time.process_time() - cpu
    return {
        "users_per_second": users / (time.perf_counter() - begun),
        "users_per_cpu_second": users / spent,
    }


def made_up(size: int) -> Any:
    """Ten views, three carts and a buy of each of so many users, among as many items."""
    import numpy as np

    from nmtr.data.records import CSR, Records

    rng = np.random.default_rng(0)
    sets = [
        CSR.from_pairs(np.repeat(np.arange(size), n), rng.integers(0, size, n * size), size, size)
        for n in (10, 3, 1)
    ]
    return Records(BEHAVIORS, tuple(sets))


def model_of(name: str, records: Any) -> Any:
    import torch

    from nmtr.models import make
    from nmtr.models.base import Shape

    torch.manual_seed(0)
    return make(name, MODEL, Shape(records.n_users, records.n_items, BEHAVIORS))


def trained(records: Any, seconds: str) -> Found:
    """Steps of nmtr-gmf by row-wise Adagrad for so many CPU seconds."""
    from nmtr.training.optim import make_optimizer
    from nmtr.training.trainer import Training, batches

    model = model_of("nmtr-gmf", records)
    optimizer = make_optimizer("rowwise-adagrad", model.named_parameters(), rate=0.05)
    sampler = batches(model, records, Training(batch_size=8192))
    samples, steps, loss = 0, 0, 0.0
    drawn = sampler.epoch(0)
    model.train()
    model.loss(next(drawn)).backward()
    optimizer.step()
    begun, cpu = time.perf_counter(), time.process_time()
    for batch in drawn:
        value = model.loss(batch)
        value.backward()
        optimizer.step()
        samples, steps, loss = samples + len(batch), steps + 1, loss + float(value)
        if time.process_time() - cpu > float(seconds):
            break
    spent = time.process_time() - cpu
    state = sum(each.numel() for each in optimizer.state.values()) * 4 / 2**30
    return {
        "samples_per_second": samples / (time.perf_counter() - begun),
        "samples_per_cpu_second": samples / spent,
        "loss": loss / steps,
        "optimizer_gib": state,
        "tables_gib": sum(each.numel() for each in model.parameters()) * 4 / 2**30,
    }


def value(found: Sequence[Measurement], contestant: str, metric: str) -> float | None:
    kept = [e.value for e in found if (e.contestant, e.metric) == (contestant, metric)]
    return kept[-1] if kept and not isinstance(kept[-1], str) else None


def page(found: list[Measurement], about: dict[str, str]) -> str:
    """The results as a page."""
    rows = []
    for each in dict.fromkeys((e.task, e.contestant) for e in found):
        own = [e for e in found if (e.task, e.contestant) == each]
        rows.append([*each, ", ".join(shown(e) for e in own)])
    against = []
    for name in dict.fromkeys(e.contestant for e in found if e.task == "prepare"):
        who, _, size = name.partition(f"{OURS}, ")
        if who or not size:
            continue
        for peer in (BY_USER, BY_PAIR):
            line = [size, peer]
            for metric in ("cpu_seconds", "wall_seconds"):
                mine, theirs = value(found, name, metric), value(found, f"{peer}, {size}", metric)
                line += [tables.short(mine / theirs) + "x" if mine and theirs else "-"]
            peak = value(found, name, "peak_gib")
            against.append([*line, tables.short(peak) if peak else "-"])
    kept = ("date", "cpu", "load", "python", "nmtr", "polars", "torch")
    head = ("log", "against Polars'", "CPU time", "clock", "peak of nmtr prepare, GiB")
    return f"""\
# Scale

Written by `python benchmarks/scale.py`; each line was measured in a process of its own.

![Scaling](scale.svg)

## Preparing, against a bare group-by of the same files

{tables.table(head, against)}

## Every measurement

{tables.table(("task", "what", "found"), rows)}

Measured on {", ".join(f"{name} {about[name]}" for name in kept)}.
"""


def shown(each: Measurement) -> str:
    name = each.metric.replace("_", " ").replace("gib", "GiB")
    return f"{name} {each.value if isinstance(each.value, str) else tables.short(each.value)}"


def plot(found: list[Measurement], path: Path) -> None:
    """Cost and peak memory, against events and against the size of the tables."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    parts = [
        ("prepare", " events", "cpu_seconds", "CPU s", axes[0, 0], "prepare"),
        ("prepare", " events", "peak_gib", "peak GiB", axes[1, 0], "prepare"),
        ("train", " events", "samples_per_cpu_second", "samples/CPU s", axes[0, 1], "train"),
        ("train", " events", "peak_gib", "peak GiB", axes[1, 1], "train"),
        ("tables", " users x", "per_cpu_second", "per CPU s", axes[0, 2], "train, rank"),
        ("tables", " users x", "peak_gib", "peak GiB", axes[1, 2], "train, rank"),
    ]
    for task, unit, metric, label, axis, title in parts:
        lines: dict[str, list[tuple[int, float]]] = {}
        for each in found:
            if (
                each.task == task
                and each.metric.endswith(metric)
                and not isinstance(each.value, str)
            ):
                who, _, rest = each.contestant.rpartition(", ")
                size = int(rest.split(unit)[0].replace(",", ""))
                lines.setdefault(who, []).append((size, each.value))
        for who, points in lines.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", label=who)
        axis.set(xscale="log", yscale="log", ylabel=label, title=title)
        axis.set_xlabel("events" if unit == " events" else "users, and items")
        axis.spines[["top", "right"]].set_visible(False)
        if lines:
            axis.legend(fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    main()
