"""Fold-in: what is new moves a user, and nothing else does; strangers come out as users do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F  # noqa: N812

from nmtr.data.records import CSR, Histories, Records
from nmtr.models import foldin as folding_file
from nmtr.models import make, names
from nmtr.models.base import Folding, Model, Shape
from nmtr.models.foldin import LogLossFolding, minimise
from nmtr.training.trainer import Training, train

GROUPS, PER_GROUP, ITEMS = 4, 25, 12
M, N = GROUPS * PER_GROUP, GROUPS * ITEMS
FOLDS = [
    "nmtr-gmf", "nmtr-mlp", "nmtr-neumf", "gmf", "mlp", "neumf", "cmf", "bpr",
]  # fmt: skip


def planted(seed: int = 3) -> Records:
    """Users who look at most items of their group, hold some of these, and keep some of those."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(M), ITEMS)
    items = users // PER_GROUP * ITEMS + np.tile(np.arange(ITEMS), M)
    order = rng.random((M, ITEMS)).argsort(1).ravel()
    sets = [CSR.from_pairs(users[order < n], items[order < n], M, N) for n in (9, 6, 4)]
    return Records(("glance", "hold", "keep"), tuple(sets))


@pytest.fixture(scope="module")
def learned() -> Callable[[str], tuple[Model, Records]]:
    """A model trained on the planted records, made once a name."""
    made: dict[str, tuple[Model, Records]] = {}

    def make_one(name: str) -> tuple[Model, Records]:
        if name not in made:
            torch.manual_seed(1)
            records = planted()
            layers = {"layers": (16, 8)} if name in ("nmtr-mlp", "nmtr-neumf") else {}
            options = {"embedding": 8, "l2": 0.003} | layers
            model = make(name, options, Shape(M, N, records.behaviors))
            config = Training(learning_rate=0.1, batch_size=256)
            train(model, records, config, phase="refit", epochs=20)
            made[name] = model.eval().requires_grad_(False), records
        return made[name]

    return make_one


def folding(model: Model) -> Folding:
    found = model.folding((4,))
    assert found is not None
    return found


def changed(histories: Histories, more: dict[int, list[int]]) -> Histories:
    """One user's histories with items added under behaviours."""
    rows = [np.union1d(each.row(0), more.get(r, [])) for r, each in enumerate(histories.items)]
    sets = tuple(CSR(np.array([0, len(row)]), row.astype(np.int32), N) for row in rows)
    return Histories(histories.users, sets)


def target(model: Model, state: torch.Tensor, histories: Histories) -> np.ndarray:
    with torch.inference_mode():
        return model.score(state, histories)[0].numpy()


@pytest.mark.parametrize("name", FOLDS)
def test_without_news_nobody_moves(
    learned: Callable[[str], tuple[Model, Records]], name: str
) -> None:
    model, records = learned(name)
    histories = records.histories(np.array([3, 70]))
    start = model.encode(histories)
    found = folding(model)(histories, start, histories)
    assert torch.allclose(found, start, atol=1e-4)


@pytest.mark.parametrize("name", FOLDS)
def test_new_records_of_another_group_raise_its_other_items(
    learned: Callable[[str], tuple[Model, Records]], name: str
) -> None:
    model, records = learned(name)
    before = records.histories(np.array([3]))  # of the first group
    news = [ITEMS * 2, ITEMS * 2 + 1, ITEMS * 2 + 2]
    after = changed(before, {0: news, 1: news, 2: news})
    start = model.encode(before)
    found = folding(model)(after, start, before)
    old, new = target(model, start, before), target(model, found, after)
    others = np.setdiff1d(np.arange(ITEMS * 2, ITEMS * 3), news)
    elsewhere = np.arange(ITEMS * 3, N)
    assert (new - old)[news].min() > 0
    assert (new - old)[others].mean() > 0.5
    assert new[others].mean() > new[elsewhere].mean() + 0.5


@pytest.mark.parametrize("name", FOLDS)
def test_a_stranger_with_a_user_s_history_is_ranked_as_that_user(
    learned: Callable[[str], tuple[Model, Records]], name: str
) -> None:
    model, records = learned(name)
    nobody = records.histories(np.array([-1]))
    stranger = model.encode(nobody)
    for user in (5, 30, 60, 90):
        history = records.histories(np.array([user]))
        alone = Histories(np.array([-1]), history.items)
        found = folding(model)(alone, stranger, nobody)
        mine = np.arange(user // PER_GROUP * ITEMS, (user // PER_GROUP + 1) * ITEMS)
        best = np.argsort(-target(model, found, alone))[:ITEMS]
        assert len(np.intersect1d(best, mine)) >= ITEMS - 3
        trained = target(model, model.encode(history), history)
        assert np.corrcoef(trained, target(model, found, alone))[0, 1] > 0.85


@pytest.mark.parametrize("name", FOLDS)
def test_several_are_folded_as_one_by_one(
    learned: Callable[[str], tuple[Model, Records]], name: str
) -> None:
    model, records = learned(name)
    now, before = records.histories(np.array([3, 70])), records.histories(np.array([-1, -1]))
    start = model.encode(before)
    fold = folding(model)
    together = fold(now, start, before)
    for at in range(2):
        one = (each.slice(at, at + 1) for each in (now, before))
        alone = fold(next(one), start[at : at + 1], next(one))
        assert torch.allclose(alone[0], together[at], atol=1e-5)


def test_it_finds_the_least_of_the_expected_loss() -> None:
    """Against SciPy, on the formula written out anew, with every item in the sample."""
    torch.manual_seed(5)
    model = make(
        "nmtr-gmf", {"embedding": 4, "init_std": 0.5, "l2": 0.05}, Shape(9, 30, ("a", "b"))
    )
    model.requires_grad_(False)
    records = Records(("a", "b"), (CSR.from_pairs([0] * 4, [1, 2, 3, 9], 1, 30),
                                   CSR.from_pairs([0] * 2, [2, 9], 1, 30)))  # fmt: skip
    now = Histories(np.array([-1]), records.histories(np.array([0])).items)
    nobody = records.histories(np.array([-1]))
    fold = folding(model)
    assert isinstance(fold, LogLossFolding)
    assert len(fold.sample) == 30
    start = model.encode(nobody)
    found = fold(now, start, nobody)[0].double().numpy()

    def expected(p: np.ndarray) -> float:
        z = model.score_behaviors(torch.tensor(p[None], dtype=torch.float32), now)[0].double()
        total = 0.0
        for r, items in enumerate(([1, 2, 3, 9], [2, 9])):
            others = [i for i in range(30) if i not in items]
            total += 0.5 * float(F.softplus(-z[r, items]).sum())
            total += 0.5 * 4 * len(items) / len(others) * float(F.softplus(z[r, others]).sum())
        gap = p - fold.mean.numpy()
        return total + 0.05 * 5 * 4 / 2 * float(p @ p) + float(fold.prior @ gap**2) / 2

    best = minimize(expected, start[0].numpy(), method="BFGS", options={"eps": 1e-3})
    assert expected(found) < best.fun * (1 + 1e-3)
    assert np.allclose(found, best.x, atol=0.02)


@pytest.mark.parametrize("cascade", ["probability", "logit", "none"])
def test_the_compiled_loss_is_the_plain_one(cascade: str) -> None:
    torch.manual_seed(2)
    shape = Shape(7, 40, ("a", "b", "c"))
    model = make("nmtr-gmf", {"embedding": 6, "init_std": 0.7, "cascade": cascade}, shape)
    fold = folding(model.requires_grad_(False))
    assert isinstance(fold, LogLossFolding)
    rng = np.random.default_rng(0)
    items = rng.choice(40, 25, replace=False).astype(np.int32)
    y = rng.integers(0, 2, (3, 25)).astype(np.float32)
    w = rng.random((3, 25)).astype(np.float32)
    p = rng.normal(size=6).astype(np.float32)
    (fast, slope), (plain, reference) = fold.loss(items, y, w)(p), fold._plain(items, y, w)(p)
    assert fast == pytest.approx(plain, rel=1e-5)
    assert slope == pytest.approx(reference, rel=1e-4, abs=1e-5)


def test_the_sample_stands_for_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding_file, "SAMPLE", 200)
    torch.manual_seed(2)
    model = make("nmtr-gmf", {"embedding": 6, "init_std": 0.6}, Shape(50, 3000, ("a", "b")))
    fold = folding(model.requires_grad_(False))
    assert isinstance(fold, LogLossFolding)
    assert 150 < len(fold.sample) < 250
    z = model.score_behaviors(fold.mean[None], None)[0]  # type: ignore[arg-type]  # not looked at
    every = F.softplus(z).mean(1)
    chosen = (F.softplus(z[:, fold.sample]) * torch.from_numpy(fold.share)).sum(1)
    assert chosen == pytest.approx(every.numpy(), rel=0.05)


def test_models_that_read_histories_or_draw_by_levels_have_no_folding() -> None:
    shape = Shape(5, 6, ("a", "b"))
    for name in names():
        model = make(name, {}, shape)
        if model.reads or model.levels:
            assert model.folding((4,)) is None


def test_the_minimum_of_a_bowl_is_found_whatever_its_curvature() -> None:
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    bend = (turn * np.array([1e-2, 0.1, 1, 10, 100])) @ turn.T
    least = rng.normal(size=5)

    def bowl(p: np.ndarray) -> tuple[float, np.ndarray]:
        return float((p - least) @ bend @ (p - least)) / 2, (bend @ (p - least)).astype(np.float32)

    for guess in (bend, np.eye(5)):
        found = minimise(bowl, np.zeros(5, np.float32), guess.astype(np.float32))
        assert bowl(found)[0] < 1e-2 * bowl(np.zeros(5))[0]
