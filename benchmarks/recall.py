"""Two-stage ranking against exact ranking as items grow: what it finds of the best, and how fast.

    python benchmarks/recall.py [--items 10000 100000 1000000] [--candidates 500 2000 ...]
                                [--fitted] [--seconds 10] [--out FOLDER] [--table]

Every size is measured in a process of its own, on one thread by default (--threads), in CPU
seconds. An nmtr-gmf of three behaviours, E = 64, is trained on a made-up log: 100 items a topic,
three topics a user, a fifth of the pairs from any topic, ten pairs an item. Its users are then
ranked exactly and by so many candidates, what they bought masked. Recall@k is the share of the
exact best k that the two stages give among theirs. At 10^5 items a graph is searched too, in
place of the lists that nmtr.serving.index has. --fitted adds a model that learned a real log: the
nmtr-gmf that run.py fitted to time its rankings. Writes recall.csv, recall.md and recall.svg into
the results; --table only writes the last two again.
"""

from __future__ import annotations

import argparse
import json
import os
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

BEHAVIORS = ("view", "cart", "buy")
TOPIC, PAIRS, TOPICS, EMBEDDING = 100, 30, 3, 64
CUTS = (20, 100, 200)
COMPARED = 512  # users whose lists are compared
BATCH = 128  # users ranked at once
EXACT = "exact ranking"
BEIBEI = "Beibei, 7,977 items"
GRAPH = 100_000  # items at which a graph is measured too
Found = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--candidates", type=int, nargs="*", default=[500, 1000, 2000, 5000])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each ranking, at the least")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--fitted", action="store_true", help="what run.py fitted on Beibei, too")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        print(json.dumps(worked(given.work, given.candidates, given.seconds)))
        return
    found = read(given.out / "recall.csv")
    sizes = [*([0] * given.fitted), *given.items]
    for items in [] if given.table else sizes:
        found = [each for each in found if each.task != named(items)]
        found += measured(items, given)
        write(given.out / "recall.csv", found)
    (given.out / "recall.md").write_text(page(found, machine()))
    plot(found, given.out / "recall.svg")


def named(items: int) -> str:
    return f"{items:,} items" if items else BEIBEI


def measured(items: int, given: argparse.Namespace) -> list[Measurement]:
    """What a process of its own finds."""
    words = ["--candidates", *map(str, given.candidates), "--seconds", str(given.seconds)]
    command = [sys.executable, __file__, "--work", str(items), *words]
    threads = str(given.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "POLARS_MAX_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Measurement(named(items), "", "ours", given.threads, 1, "failed", reason[:200])]
    numbers: Found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({named(items): numbers}), flush=True)
    return [
        Measurement(named(items), who, "ours", given.threads, 1, *each)
        for who, own in numbers.items()
        for each in own.items()
    ]


def worked(items: int, candidates: Sequence[int], seconds: float) -> Found:
    """Train, then rank both ways, in this process."""
    import numpy as np
    import torch

    from nmtr.serving.index import Index
    from nmtr.serving.ranker import Ranker
    from nmtr.serving.service import SAMPLED, evenly

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    began = time.process_time()
    model, records = trained(items) if items else fitted()
    found: Found = {"the model": {
        "users": records.n_users, "pairs": records.seen().nnz,
        "cpu_seconds": time.process_time() - began,
    }}  # fmt: skip
    items = records.n_items
    order = np.random.default_rng(0).permutation(items).astype(np.uint64)
    few = np.linspace(0, records.n_users - 1, COMPARED).astype(np.int64)
    wanted, found[EXACT] = ranked(Ranker(model, order), records, few, seconds)
    counts = [each for each in candidates if each < items // 2]
    sample = records.histories(evenly(records.n_users, SAMPLED))
    floors = by_floors(model, records, few, max(counts))
    with torch.inference_mode():
        vectors = model.index_vectors().numpy()
        states = model.encode(sample)
        users = np.pad(model.index_queries(states).numpy(), ((0, 0), (0, 1)), constant_values=1)
    for kind, suffix in [(Index, "")] + [(Graph, ", graph")] * (items == GRAPH):
        began = time.process_time()
        index = kind(vectors, users)
        built = time.process_time() - began
        for count in counts:
            ranker = Ranker(model, order, candidates=count, sample=sample)
            ranker._stages._indexes.put("", index)  # type: ignore[arg-type, union-attr]
            best, own = ranked(ranker, records, few, seconds)
            own["index_cpu_seconds"] = built
            own |= {f"recall_{k}": shared(wanted[:, :k], best[:, :k]) for k in CUTS}
            own["recall_200_of_floors"] = shared(wanted, floors[:, :count])
            found[f"{count:,} candidates{suffix}"] = own
    return found


class Graph:
    """A graph (HNSW) in place of lists, which is what most other libraries of this kind have."""

    def __init__(self, vectors: Any, users: Any) -> None:
        import faiss

        self.n_items = len(vectors)
        self._graph = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction = 100
        self._graph.add(vectors)

    def search(self, queries: Any, count: int) -> Any:
        """As Index.search, with no more of the graph in view than what is asked for."""
        self._graph.hnsw.efSearch = count
        return self._graph.search(queries, count)[1]


def trained(items: int) -> tuple[Any, Any]:
    """A model that has learned a made-up log, and its records."""
    import torch

    from nmtr.models import make
    from nmtr.models.base import Shape
    from nmtr.training.trainer import Training, train

    records = topical(items)
    torch.manual_seed(0)
    shape = Shape(records.n_users, records.n_items, BEHAVIORS)
    model = make("nmtr-gmf", {"embedding": EMBEDDING}, shape)
    epochs = min(20, max(3, 800_000 // items))
    train(model, records, Training(threads=torch.get_num_threads()), phase="refit", epochs=epochs)
    return model.eval(), records


def fitted() -> tuple[Any, Any]:
    """What run.py fitted on Beibei to time its rankings, and the records it learned."""
    from nmtr.data.interactions import load
    from nmtr.data.split import split
    from nmtr.models import make
    from nmtr.models.base import Shape
    from nmtr.training.weights import read_tensors

    weights, _ = read_tensors(max((WORK / "models").glob("nmtr-gmf-*.safetensors")))
    records = split(load(WORK / "data" / "beibei"), "as-published", fold="validation").train
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    model = make("nmtr-gmf", {"embedding": weights["user"].shape[1]}, shape)
    model.load_state_dict(weights)
    return model.eval(), records


def topical(items: int) -> Any:
    """Records of a third as many users as items, who each keep to a few topics."""
    import numpy as np

    from nmtr.data.records import CSR, Records

    rng = np.random.default_rng(0)
    topics, users = items // TOPIC, items // 3
    renown = rng.permutation(1 / np.arange(1, topics + 1) ** 0.5)
    chosen = rng.choice(topics, (users, TOPICS), p=renown / renown.sum())
    slot = rng.choice(TOPICS, (users, PAIRS), p=[0.5, 0.3, 0.2])
    topic = np.take_along_axis(chosen, slot, 1)
    strayed = rng.random((users, PAIRS)) < 0.2
    topic[strayed] = rng.choice(topics, int(strayed.sum()), p=renown / renown.sum())
    place = (TOPIC * rng.random((users, PAIRS)) ** 2.5).astype(np.int64)  # few are met often
    item = rng.permutation(items)[topic * TOPIC + place]
    user = np.broadcast_to(np.arange(users)[:, None], item.shape)
    wish = np.where(strayed, 0.05, np.array([0.5, 0.3, 0.2])[slot])
    carted = rng.random(item.shape) < wish
    bought = carted & (rng.random(item.shape) < 0.4)
    kept = (np.ones_like(carted), carted, bought)
    return Records(BEHAVIORS, tuple(
        CSR.from_pairs(user[each], item[each], users, items) for each in kept
    ))  # fmt: skip


def ranked(ranker: Any, records: Any, few: Any, seconds: float) -> tuple[Any, dict[str, float]]:
    """The best 200 of a few users, and how many users are ranked in a second of CPU and clock."""
    import numpy as np
    import torch

    def best(users: Any) -> Any:
        histories = records.histories(users)
        with torch.inference_mode():
            state = ranker.model.encode(histories)
        mask = records.target.take(users)
        return ranker.best(state, histories, mask, CUTS[-1]).items

    found = np.concatenate([best(few[at : at + BATCH]) for at in range(0, len(few), BATCH)])
    done, clock, cpu = 0, time.perf_counter(), time.process_time()
    while time.process_time() - cpu < seconds:
        best(np.arange(done, done + BATCH) % records.n_users)
        done += BATCH
    spent, passed = time.process_time() - cpu, time.perf_counter() - clock
    return found, {"users_per_cpu_second": done / spent, "users_per_second": done / passed}


def by_floors(model: Any, records: Any, few: Any, count: int) -> Any:
    """What an index that misses nothing would give to the second stage."""
    import numpy as np
    import torch

    found = []
    with torch.inference_mode():
        vectors = model.index_vectors()
        for user in few:
            state = model.encode(records.histories([user]))
            floors = model.index_queries(state) @ vectors[:, :-1].T + vectors[:, -1]
            floors[0, torch.from_numpy(records.target.row(user).astype(np.int64))] = -torch.inf
            found.append(floors[0].topk(count).indices.numpy())
    return np.stack(found)


def shared(wanted: Any, found: Any) -> float:
    """The share of wanted (U, k) that is in found (U, any), over the users."""
    import numpy as np

    pairs = zip(wanted, found, strict=True)
    return float(np.mean([np.isin(row, own).mean() for row, own in pairs]))


def page(found: list[Measurement], about: dict[str, str]) -> str:
    """The results as a page."""
    value = {(e.task, e.contestant, e.metric): e.value for e in found}
    lines, models = [], []
    for task, who in dict.fromkeys((e.task, e.contestant) for e in found):

        def own(metric: str, who: str = who, task: str = task) -> str:
            each = value.get((task, who, metric), "-")
            return each if isinstance(each, str) else tables.short(each)

        if who == "the model":
            names = ("users", "pairs", "cpu_seconds")
            models.append([task, *(own(each) for each in names)])
            continue
        rate, exact = (value.get((task, w, "users_per_cpu_second")) for w in (who, EXACT))
        times = tables.short(rate / exact) + "x" if rate and exact else "-"  # type: ignore[operator]
        recalls = [own(f"recall_{k}") for k in CUTS]
        built = own("index_cpu_seconds")
        lines.append([task, who or own("failed"), own("users_per_cpu_second"), times, *recalls,
                      own("recall_200_of_floors"), built])  # fmt: skip
    kept = ("date", "cpu", "load", "python", "nmtr", "torch", "numba")
    head = ("items", "ranked by", "users a CPU second", "against exact",
            *(f"recall@{k}" for k in CUTS), "recall@200, exact index", "index, CPU s")  # fmt: skip
    return f"""\
# Two stages

Written by `python benchmarks/recall.py`, which says what was ranked; one thread, CPU seconds. The
last recall is what an index that misses nothing would reach: the rest is lost by the index, and
that by the floors it holds.

![Recall and rate](recall.svg)

{tables.table(head, lines)}

The models:

{tables.table(("items", "users", "pairs", "making it, CPU s"), models)}

Measured on {", ".join(f"{name} {about[name]}" for name in kept)}.
"""


def plot(found: list[Measurement], path: Path) -> None:
    """Users a CPU second and recall@200, against the items."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    parts: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("users_per_cpu_second", "users a CPU second", lambda axis: axis.set_yscale("log")),
        ("recall_200", "recall@200", lambda axis: axis.set_ylim(top=1)),
    ]
    for axis, (metric, label, scale) in zip(axes, parts, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for each in found:
            made_up = each.task != BEIBEI and "graph" not in each.contestant
            if each.metric == metric and made_up and not isinstance(each.value, str):
                size = int(each.task.split()[0].replace(",", ""))
                lines.setdefault(each.contestant, []).append((size, each.value))
        for who, points in lines.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", label=who)
        axis.set(xscale="log", xlabel="items", ylabel=label)
        scale(axis)
        axis.spines[["top", "right"]].set_visible(False)
        if lines:
            axis.legend(fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    main()
