"""How well fold-in agrees with training again, on a simulated shop or on a prepared data set.

Of the users whom validation ranks, a quarter is kept from a first training whole (strangers), and
of another quarter the last third of their events (late). A second training, and a third from
another seed, see everything. These users are then ranked by the first model as it stands, by its
fold-in of their whole histories, and by the second; the third says how far two trainings agree at
all. Nothing here reads the test.

    python benchmarks/fold_in.py                                      # the simulated shop
    python benchmarks/fold_in.py --data DATA --only nmtr-gmf --set l2=0.02 --epochs 11

Adds a line for each to results/fold-in.csv, and writes results/fold-in.md from it.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from harness.machine import machine
from harness.tables import table
from scipy.stats import spearmanr
from torch import Tensor

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR, Histories, Records
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.data.split import Split, split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.options import parse_assignments
from nmtr.training.trainer import Training, train

RESULTS = Path(__file__).parent / "results"
BEHAVIORS = ("view", "cart", "buy")
SHOP = SimulatorConfig(users=3000, items=1500, events=300_000, seed=5)
SHOP_MODELS = (  # name, options, epochs: about those that validation chooses
    ("nmtr-gmf", {"embedding": "32"}, 6),
    ("nmtr-gmf", {"embedding": "32", "l2": "0.02"}, 12),
    ("nmtr-neumf", {"embedding": "32", "l2": "0.02", "mlp_l2": "0.001"}, 12),
    ("cmf", {"embedding": "32", "l2": "0.02"}, 12),
    ("bpr", {"embedding": "32"}, 20),
)
NEGATIVES = (4,)
HEAD = (
    *("data", "model", "options", "epochs", "users", "who", "ranked by", "HR@20", "NDCG@100"),
    *("overlap@20", "Spearman", "ms", "date", "cpu"),
)
WHO = ("strangers", "late")


@dataclass(frozen=True)
class Contest:
    """One split, the records that the first training sees, and the two groups of users."""

    parts: Split
    less: Records
    groups: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

    @classmethod
    def of(cls, data: Interactions) -> Contest:
        parts = split(data, fold="validation")
        users = np.random.default_rng(0).permutation(parts.evaluation.users)
        quarter = len(users) // 4
        groups = users[:quarter], users[quarter : 2 * quarter]
        strange, late = (np.isin(np.arange(data.n_users), each) for each in groups)
        early = data.records(keep=~(strange[data.user] | (late[data.user] & _last(data, parts))))
        sets = tuple(_both(*each) for each in zip(parts.train.sets, early.sets, strict=True))
        return cls(parts, Records(data.behaviors, sets), groups)


def _last(data: Interactions, parts: Split) -> npt.NDArray[np.bool_]:
    """(events,) the last third of each user's events whose pairs training sees."""
    counts = np.zeros(data.n_events, np.bool_)
    for r, each in enumerate(parts.train.sets):
        mine = np.flatnonzero(data.code == r)
        counts[mine] = each.contains(data.user[mine], data.item[mine])
    of_user = np.bincount(data.user[counts], minlength=data.n_users)
    done = np.cumsum(counts)
    before = np.concatenate([[0], done])[data.indptr[:-1]]
    late: npt.NDArray[np.bool_] = done - before[data.user] > np.ceil(of_user * 2 / 3)[data.user]
    return counts & late


def _both(one: CSR, other: CSR) -> CSR:
    keys = np.intersect1d(one.keys(), other.keys(), assume_unique=True)
    return CSR.from_keys(keys, one.n_rows, one.n_columns)


def trained(
    contest: Contest, records: Records, name: str, options: dict[str, str], epochs: int, seed: int
) -> Model:
    """A model trained on these records."""
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    torch.manual_seed(seed)
    model = make(name, options, shape)
    config = Training(seed=seed, negatives=NEGATIVES, threads=1)
    if name == "bpr":
        config = replace(config, learning_rate=0.1)
    train(model, records, config, phase="refit", epochs=epochs)
    return model.eval().requires_grad_(False)


def states(model: Model, contest: Contest, users: npt.NDArray[np.int64]) -> Iterator[Tensor]:
    """The users' states in the first model, as it stands and folded in; and the milliseconds."""
    known = contest.less.seen().lengths()[users] > 0
    index = np.where(known, users, -1)
    now = Histories(index, contest.parts.train.histories(users).items)
    before = contest.less.histories(index)
    start = model.encode(before)
    yield start
    folding = model.folding(NEGATIVES)
    assert folding is not None
    folding(now.slice(0, 2), start[:2], before.slice(0, 2))  # compiles
    began = time.thread_time()
    yield folding(now, start, before)
    yield torch.tensor((time.thread_time() - began) / len(users) * 1000)


def with_states(model: Model, users: npt.NDArray[np.int64], states: Tensor) -> Model:
    """The model with other vectors for these users."""
    changed = deepcopy(model)
    table = changed.get_parameter("user")
    table[torch.from_numpy(users)] = states
    if hasattr(changed, "known"):
        changed.get_buffer("known")[..., torch.from_numpy(users)] = True
    return changed


def measure(
    model: Model, again: Model, contest: Contest, users: npt.NDArray[np.int64]
) -> tuple[float, float, float, float]:
    """HR@20 and NDCG@100 on validation; overlap@20 and Spearman's rho with `again`."""
    whole = contest.parts.evaluation
    rows = np.flatnonzero(np.isin(whole.users, users))
    wanted = np.isin(whole.truth.row_of_each(), rows)
    histories = Histories(whole.users[rows], tuple(e.take(rows) for e in whole.histories.items))
    evaluation = replace(
        whole, users=whole.users[rows], histories=histories, truth=whole.truth.take(rows),
        mask=whole.mask.take(rows), in_funnel=whole.in_funnel[wanted], sealed=whole.sealed[rows],
    )  # fmt: skip
    found = per_user(ranks(model, evaluation), evaluation.truth.indptr)
    overlaps, rhos = [], []
    for at in range(len(rows)):
        one = histories.slice(at, at + 1)
        ours, theirs = (each.score(each.encode(one), one)[0].numpy() for each in (model, again))
        left = np.setdiff1d(np.arange(len(ours)), evaluation.mask.row(at))
        tops = (set(left[np.argsort(-each[left])[:20]]) for each in (ours, theirs))
        overlaps.append(len(next(tops) & next(tops)) / 20)
        rhos.append(spearmanr(ours[left], theirs[left]).statistic)
    means = [float(np.mean(each)) for each in (overlaps, rhos)]
    return float(found["hr@20"].mean()), float(found["ndcg@100"].mean()), means[0], means[1]


@torch.no_grad()
def lines(
    contest: Contest, title: str, name: str, options: dict[str, str], epochs: int
) -> Iterator[list[str]]:
    """What is measured of one model, a line for each group and way to rank."""
    with torch.enable_grad():
        first = trained(contest, contest.less, name, options, epochs, 0)
        again = trained(contest, contest.parts.train, name, options, epochs, 0)
        other = trained(contest, contest.parts.train, name, options, epochs, 1)
    about = machine()
    told = " ".join(f"{key}={value}" for key, value in options.items()) or "-"
    for who, users in zip(WHO, contest.groups, strict=True):
        stood, folded, each_ms = states(first, contest, users)
        ways = {
            "as it stood": (with_states(first, users, stood), "-"),
            "folded in": (with_states(first, users, folded), f"{float(each_ms):.1f}"),
            "trained again": (again, "-"),
            "another seed": (other, "-"),
        }
        for way, (model, ms) in ways.items():
            values = [f"{each:.4f}" for each in measure(model, again, contest, users)]
            yield [
                title, name, told, str(epochs), str(len(users)), who, way, *values, ms,
                about["date"], about["cpu"],
            ]  # fmt: skip


def shop(folder: Path) -> Interactions:
    """The simulated shop, its last tenth of time held out."""
    simulate(SHOP, folder / "shop")
    options = ReadOptions(behaviors=BEHAVIORS, unknown="drop")
    log = read_events([folder / "shop" / "events-*.parquet"], options)
    return prepare(log, behaviors=BEHAVIORS, holdout="time:0.9")


def write(found: Sequence[Sequence[str]]) -> None:
    """Put the lines into the CSV file, in place of earlier ones of the same, and make the page."""
    file, key = RESULTS / "fold-in.csv", slice(0, 7)
    kept = []
    if file.exists():
        with file.open(newline="") as stream:
            kept = list(csv.reader(stream))[1:]
    fresh = {tuple(each[key]) for each in found}
    rows = [each for each in kept if tuple(each[key]) not in fresh] + [list(e) for e in found]
    with file.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([HEAD, *rows])
    text = f"""\
# Fold-in against training again

Written by `python benchmarks/fold_in.py`, which says what is done. Validation only. *strangers*:
users of whom the first training saw nothing; *late*: those whose last third of events it did not
see. `overlap@20` and `Spearman` are with the model trained again: `another seed` says how far two
trainings on the same records agree. `ms`: CPU time of one fold-in, on a machine that other work
shared.

{table(HEAD, rows)}
"""
    (RESULTS / "fold-in.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="a prepared data set; else a simulated shop")
    parser.add_argument("--only", help="one model by name")
    parser.add_argument("--set", action="append", default=[], help="its options, NAME=VALUE")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--title", help="what the data are called")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = load(asked.data) if asked.data else shop(Path(folder))
        title = asked.title or (asked.data.name if asked.data else "simulated shop")
        contest = Contest.of(data)
        chosen = [each for each in SHOP_MODELS if asked.only in (None, each[0])]
        if asked.data or asked.set:
            chosen = [(asked.only or "nmtr-gmf", parse_assignments(asked.set), asked.epochs)]
        for name, options, epochs in chosen:
            found = list(lines(contest, title, name, options, epochs))
            write(found)
            for each in found:
                print(*each[1:12], sep="  ", flush=True)


if __name__ == "__main__":
    main()
