"""No id order, no test pair and no look at held-out times reaches a score.

Each test plants a leak in a simulated log, or changes what is held out, and asks whether what a
model has learned moved. Canaries stand beside: toys that do leak, caught by the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from torch import Tensor

from nmtr.data.events import from_frame
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR, Histories
from nmtr.data.split import Fold, Split, split
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks, top
from nmtr.models import make, names
from nmtr.models.base import Model, Shape
from nmtr.training.run import execute
from nmtr.training.settings import Settings
from nmtr.training.trainer import Training

ORDER = ("glance", "hold", "keep")
M, N = 60, 40
CUT = 1_000_000_000_000  # milliseconds, all multiples of a second before they are planted in
# The same models as their variants; and one that needs attributes, which these logs have none of.
LEFT_OUT = {"ncf", "mc-ncf", "nmtr", "nmtr-features"}
EVERY = pytest.mark.parametrize("name", [name for name in names() if name not in LEFT_OUT])
Row = tuple[int, int, str, int]
Fit = Callable[[Interactions], Mapping[str, Tensor]]


def funnels(seed: int, *, users: int = M, items: int = N) -> tuple[list[Row], list[Row]]:
    """Events of users in four groups before the cut, nested, and what each keeps after it.

    The first events show every user and item, in their order.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = [(k % users, k % items, "glance", CUT - 10**9) for k in range(users)]
    later: list[Row] = []
    for user in range(users):
        group = user % 4 + 4 * np.arange(items // 4)
        chosen = rng.permutation(group)[:9].tolist()
        for level, behavior in enumerate(ORDER):
            times = CUT - 1000 * rng.integers(1, 10**5, 9)
            rows += [
                (user, item, behavior, int(t))
                for item, t in zip(chosen[: 7 - 2 * level], times, strict=False)
            ]
        later += [(user, item, "keep", CUT + 1000 * (1 + user)) for item in chosen[7:]]
    return rows, later


def frame_of(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, ["user_id", "item_id", "behavior", "timestamp"], orient="row")


def timed(rows: list[Row]) -> Interactions:
    return prepare(from_frame(frame_of(rows)), behaviors=ORDER, holdout=f"time:{CUT}")


def filed(rows: list[Row], held: list[Row], folder: Path) -> Interactions:
    """Data without times, with the held-out pairs in a file."""
    path = folder / f"held-{len(list(folder.iterdir()))}.parquet"
    frame_of(held).drop("timestamp").write_parquet(path)
    log = from_frame(frame_of(rows).drop("timestamp"))
    return prepare(log, behaviors=ORDER, holdout=path)


def fitted(name: str, protocol: str, **options: object) -> Fit:
    """What training a model by `execute`, selection and calibration too, leaves in it."""

    def fit(data: Interactions) -> Mapping[str, Tensor]:
        training = Training(epochs=epochs_of(name), batch_size=512)
        run = execute(data, Settings(name, protocol, options, training))
        found = dict(run.model.state_dict())
        if run.calibration is not None:
            found["calibration"] = torch.tensor(list(str(run.calibration).encode()))
        everyone = split(data, protocol).train.histories(np.arange(data.n_users))
        return found | {"scores": scores_of(run.model, everyone)}

    return fit


def epochs_of(name: str) -> int:
    """Few; one more than those that only prepare the model."""
    return 1 + make(name, {}, Shape(2, 2, ORDER)).warm_up


def scores_of(model: Model, histories: Histories) -> Tensor:
    with torch.inference_mode():
        return model.score(model.encode(histories), histories).clone()


def moves(fit: Fit, one: Interactions, other: Interactions) -> bool:
    """The check: whether one bit of what is learned differs between two logs."""
    a, b = fit(one), fit(other)
    assert a.keys() == b.keys()
    return not all(torch.equal(a[key], b[key]) for key in a)


def same_records(one: Split, other: Split) -> bool:
    pairs = zip(one.train.sets, other.train.sets, strict=True)
    return all(
        np.array_equal(a.indptr, b.indptr)
        and np.array_equal(a.indices, b.indices)
        and np.array_equal(seconds(a), seconds(b))
        for a, b in pairs
    )


def seconds(pairs: CSR) -> npt.NDArray[np.int64]:
    """Their times, if they have any, without the digits that are planted in."""
    return np.zeros(0, np.int64) if pairs.at is None else pairs.at // 1000


def rotated(held: list[Row]) -> list[Row]:
    """The same users, who keep what the next user of their group kept."""
    items = {user: [row[1] for row in held if row[0] == user] for user in range(M)}
    return [
        (user, item, behavior, t)
        for user in range(M)
        for item, (_, _, behavior, t) in zip(
            items[(user + 4) % M], [r for r in held if r[0] == user], strict=False
        )
    ]


# --- what is held out ---------------------------------------------------------------------------


def peeking(data: Interactions) -> Mapping[str, Tensor]:
    """A canary: popularity that counts every event of the log, and the held-out pairs."""
    counts = data.records().target.column_counts()
    if data.holdout_item is not None:
        counts = counts + np.bincount(data.holdout_item, minlength=data.n_items)
    return {"counts": torch.from_numpy(counts)}


def choosing(data: Interactions) -> Mapping[str, Tensor]:
    """A canary: of two orders of the items, the one that ranks the test better."""
    test = split(data).evaluation
    ahead = np.mean(ranks(Indexed(data), test)) < np.mean(ranks(Indexed(data, -1), test))
    return {"order": torch.tensor([1 if ahead else -1])}


class Indexed(Model):
    """A canary: items by their index."""

    def __init__(self, data: Interactions, sign: int = 1) -> None:
        super().__init__(None, Shape(data.n_users, data.n_items, data.behaviors))
        self.sign = sign

    def encode(self, histories: Histories) -> Tensor:
        return torch.zeros(len(histories), 0)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        index = self.sign * torch.arange(self.shape.n_items, dtype=torch.float32)
        return index.expand(len(histories), self.shape.n_behaviors, -1)


@pytest.fixture(scope="module")
def changed(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Interactions, Interactions]]:
    """For each protocol two logs that differ in what it holds out, and in nothing else."""
    folder = tmp_path_factory.mktemp("held")
    rows, held = funnels(1)
    own = {(row[0], row[1]) for row in rows}
    held, other = (
        [row for row in pairs if (row[0], row[1]) not in own] for pairs in (held, rotated(held))
    )
    after = [
        (user, (item + 3) % N, behavior, t + 500)
        for user, item, behavior, t in rotated(held)
        for behavior in ORDER[:2]
    ]
    return {
        "discovery": (filed(rows, held, folder), filed(rows, other, folder)),
        "leak-free": (
            filed(rows + shown(held), held, folder),
            filed(rows + shown(other), other, folder),
        ),
        "time": (timed(rows + held), timed(planted_times(rows) + other + after)),
    }


def shown(pairs: list[Row]) -> list[Row]:
    """Records of held-out pairs under other behaviours, held out with them under leak-free."""
    return [(user, item, name, CUT - 5000) for user, item, _, _ in pairs for name in ORDER[:2]]


def planted_times(rows: list[Row]) -> list[Row]:
    """Each time with the item that its user will keep in its last digits, the order as it was."""
    _, held = funnels(1)
    future = {user: item for user, item, _, _ in held}
    return [(user, item, behavior, t + future[user]) for user, item, behavior, t in rows]


@EVERY
@pytest.mark.parametrize("protocol", ["discovery", "time"])
def test_what_is_held_out_moves_no_bit_of_any_model(
    name: str, protocol: str, changed: dict[str, tuple[Interactions, Interactions]]
) -> None:
    assert not moves(fitted(name, protocol), *changed[protocol])


def test_what_is_held_out_moves_no_bit_of_a_model_that_reads_times(
    changed: dict[str, tuple[Interactions, Interactions]],
) -> None:
    assert not moves(fitted("nmtr-funnel", "time", recency=True), *changed["time"])


@pytest.mark.parametrize("fold", ["test", "validation"])
@pytest.mark.parametrize("protocol", ["discovery", "leak-free", "time"])
def test_what_is_held_out_moves_no_training_record(
    protocol: str, fold: Fold, changed: dict[str, tuple[Interactions, Interactions]]
) -> None:
    one, other = (split(data, protocol, fold=fold) for data in changed[protocol])
    assert same_records(one, other)
    totals = [sum(each.column_counts() for each in found.train.sets) for found in (one, other)]
    assert np.array_equal(totals[0], totals[1])
    if fold == "test":
        assert not same_truth(one, other), "the held-out pairs did change"


def same_truth(one: Split, other: Split) -> bool:
    a, b = one.evaluation.truth, other.evaluation.truth
    return a.nnz == b.nnz and np.array_equal(a.indices, b.indices)


@pytest.mark.parametrize("protocol", ["discovery", "leak-free", "time"])
def test_a_model_that_peeks_is_caught(
    protocol: str, changed: dict[str, tuple[Interactions, Interactions]]
) -> None:
    assert moves(peeking, *changed[protocol])


def test_an_epoch_chosen_on_the_test_is_caught(tmp_path: Path) -> None:
    rows, _ = funnels(1)
    ends = [[(user, item, "keep", 0) for user in range(M)] for item in (N - 1, 0)]
    assert moves(choosing, *(filed(rows, held, tmp_path) for held in ends))


def test_the_totals_that_a_looser_protocol_leaves_are_caught(
    changed: dict[str, tuple[Interactions, Interactions]],
) -> None:
    assert moves(fitted("popularity", "as-published"), *changed["leak-free"])


@pytest.mark.parametrize("protocol", ["as-published", "discovery", "leak-free"])
def test_drawn_pairs_train_as_if_they_had_never_been(protocol: str, tmp_path: Path) -> None:
    rows, held = funnels(2)
    log = frame_of(rows + held).drop("timestamp")
    data = prepare(from_frame(log), behaviors=ORDER, holdout="random")
    whole = split(data, "leak-free").evaluation
    pairs = pl.DataFrame(
        {
            "user_id": data.users.take(whole.users[whole.truth.row_of_each()]),
            "item_id": data.items.take(whole.truth.indices),
        }
    )
    gone = log.join(pairs, on=["user_id", "item_id"], how="semi")
    if protocol != "leak-free":
        gone = gone.filter(pl.col("behavior") == ORDER[-1])
    left = log.join(gone, on=gone.columns, how="anti", maintain_order="left")
    bare = prepare(from_frame(left), behaviors=ORDER, holdout="random")
    train = split(data, protocol).train
    for r, each in enumerate(bare.records().sets):
        assert ids_of(data, train.sets[r]) == ids_of(bare, each)


def ids_of(data: Interactions, found: CSR) -> set[tuple[int, int]]:
    users, items = data.users.ids.to_list(), data.items.ids.to_list()
    return {(users[u], items[i]) for u, i in zip(found.row_of_each(), found.indices, strict=True)}


# --- time ---------------------------------------------------------------------------------------


def test_events_from_the_moment_on_move_nothing_that_a_prediction_reads() -> None:
    rows, held = funnels(3)
    rng = np.random.default_rng(3)
    moment = {user: t for user, _, _, t in held}
    # At the moment itself, and after it: what the user had in view when they bought, and since.
    after = [
        (user, int(rng.integers(N)), ORDER[int(rng.integers(2))], moment[user] + late)
        for user in range(M)
        for late in (0, 1, 10**7)
    ]
    one, other = (split(timed(each)).evaluation for each in (rows + held, rows + held + after))
    assert one.users.tolist() == other.users.tolist()
    for a, b in zip(one.histories.items, other.histories.items, strict=True):
        assert a.row_of_each().tolist() == b.row_of_each().tolist()
        assert a.indices.tolist() == b.indices.tolist()
        assert a.at is not None
        assert np.array_equal(seconds(a), seconds(b)), "nor does the time of what was met again"
    early = [(user, item, behavior, moment[user] - 1) for user, item, behavior, _ in after]
    shown = split(timed(rows + held + early)).evaluation
    assert shown.histories.items[0].nnz > one.histories.items[0].nnz, "a canary: before, it counts"


def test_the_number_of_held_out_events_moves_no_validation() -> None:
    rows, held = funnels(4)
    more = [(user, item, behavior, t + 10**6) for user, item, behavior, t in rotated(held)]
    one, other = (
        split(timed(each), fold="validation") for each in (rows + held, rows + held + more)
    )
    assert same_records(one, other)
    assert same_truth(one, other)


# --- the order of ids ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Interactions]:
    """A log in which each user's held-out item has their highest index, and one with their lowest.

    The same ids, events and held-out pairs; only the order of the rows, and so the indices, differ.
    """
    folder = tmp_path_factory.mktemp("orders")
    users = 3 * M
    rows, later = funnels(5, users=users)
    kept: dict[int, set[int]] = {user: set() for user in range(users)}
    for user, item, behavior, _ in rows + later:
        if behavior == "keep":
            kept[user].add(item)
    held = [(user, max(items), "keep", 0) for user, items in kept.items()]
    gone = {(user, item) for user, item, _, _ in held}
    rows = [row for row in rows + later if row[2] != "keep" or (row[0], row[1]) not in gone]
    planted = sorted(rows, key=lambda row: (row[1], row[0]))
    return filed(planted, held, folder), filed(planted[::-1], held, folder)


def standing(model: Model, data: Interactions) -> npt.NDArray[np.float64]:
    """For each user, by id, the share of items that stand behind the held-out one."""
    found = split(data, "as-published").evaluation
    among = data.n_items - found.mask.lengths() - 1
    share = 1 - (ranks(model, found) - 1) / among
    return share[np.argsort(data.users.take(found.users).to_numpy())]


def learned(name: str, data: Interactions) -> Model:
    training = Training(epochs=2 + epochs_of(name), batch_size=512, select="none", calibrate=False)
    return execute(data, Settings(name, "as-published", {}, training)).model


@EVERY
def test_the_highest_index_of_a_user_is_worth_nothing(
    name: str, orders: tuple[Interactions, Interactions]
) -> None:
    highest, lowest = (standing(learned(name, data), data).mean() for data in orders)
    assert abs(highest - lowest) < 0.15


def test_a_model_that_reads_the_order_of_indices_is_caught(
    orders: tuple[Interactions, Interactions],
) -> None:
    highest, lowest = (standing(Indexed(data), data).mean() for data in orders)
    assert highest - lowest > 0.45


@pytest.mark.parametrize("name", ["popularity", "replay", "itemknn", "ease"])
def test_scores_of_ids_are_the_same_in_any_order(
    name: str, orders: tuple[Interactions, Interactions]
) -> None:
    found = []
    for data in orders:
        everyone = split(data, "as-published").train.histories(np.arange(data.n_users))
        scores = scores_of(learned(name, data), everyone).numpy()
        rows, columns = (np.argsort(each.ids.to_numpy()) for each in (data.users, data.items))
        found.append(scores[rows][:, columns])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_ties_are_broken_by_ids_and_never_by_indices(
    orders: tuple[Interactions, Interactions],
) -> None:
    lists, places = [], []
    for data in orders:
        found = split(data, "as-published")
        constant = make("popularity", {}, Shape(data.n_users, data.n_items, data.behaviors))
        everyone = found.train.histories(np.arange(data.n_users))
        items, _, _ = top(constant, everyone, found.train.target, k=10, tie_break=data.item_hash)
        rows = np.argsort(data.users.ids.to_numpy())
        lists.append(data.items.ids.to_numpy()[items[rows]])
        places.append(ranks(constant, found.evaluation))
        masked = found.evaluation.mask.lengths()[found.evaluation.truth.row_of_each()]
        assert np.array_equal(places[-1], data.n_items - masked), "against the model"
    assert np.array_equal(lists[0], lists[1])
    assert not np.array_equal(lists[0], np.sort(lists[0], axis=1))
    assert per_user(places[0], np.arange(len(places[0]) + 1))["hr@10"].max() == 0
