"""What every model promises; a new file in nmtr/models is met here by itself."""

from __future__ import annotations

import importlib
from dataclasses import FrozenInstanceError, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.split import Evaluation
from nmtr.errors import UsageError
from nmtr.evaluation.ranking import ranks, score_blocks
from nmtr.models import VARIANTS, make, names
from nmtr.models.base import Batch, Model, Shape
from nmtr.training.trainer import Training, batches, train

GROUPS, PER_GROUP, ITEMS_PER_GROUP = 4, 20, 10
M, N = GROUPS * PER_GROUP, GROUPS * ITEMS_PER_GROUP
BEHAVIORS = ("glance", "hold", "keep")
EVERY = pytest.mark.parametrize("name", names())


def planted(r: int = 3) -> tuple[Records, CSR]:
    """Users who want the items of their group only, and the target pairs that are kept back.

    Of the 10 items of their group users have glanced at 9, held 7 of those, kept 5 of those, ...;
    half of a group's items are in favour. One target pair of each user is kept back.
    """
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(M), ITEMS_PER_GROUP)
    items = users // PER_GROUP * ITEMS_PER_GROUP + np.tile(np.arange(ITEMS_PER_GROUP), M)
    wish = rng.random((M, ITEMS_PER_GROUP)) + 0.7 * (np.arange(ITEMS_PER_GROUP) >= 5)
    order = wish.argsort(1).argsort(1).ravel()
    sets = [
        CSR.from_pairs(users[order < 9 - 2 * level], items[order < 9 - 2 * level], M, N)
        for level in range(r)
    ]
    last = np.array([rng.choice(sets[-1].row(user)) for user in range(M)])
    sets[-1] = sets[-1].without(np.arange(M), last)
    truth = CSR.from_pairs(np.arange(M), last, M, N)
    return Records(("glance", "hold", "keep", "own")[:r], tuple(sets)), truth


def learned(name: str, records: Records, *, seed: int = 0, epochs: int = 25) -> Model:
    torch.manual_seed(seed)
    model = make(name, {}, Shape(records.n_users, records.n_items, records.behaviors))
    if not model.trained:
        model.learn(records)
        return model.eval()
    config = Training(learning_rate=0.1, batch_size=256, seed=seed)
    train(model, records, config, phase="refit", epochs=epochs)
    return model.eval()


def scores_of(model: Model, histories: Histories) -> Tensor:
    with torch.inference_mode():
        return model.score_behaviors(model.encode(histories), histories).clone()


@EVERY
def test_it_learns_a_planted_answer(name: str) -> None:
    records, truth = planted()
    model = learned(name, records)
    evaluation = Evaluation(
        np.arange(M), records.histories(np.arange(M)), truth, records.target,
        np.ones(M, np.bool_), np.zeros(M, np.bool_),
    )  # fmt: skip
    found = ranks(model, evaluation)
    # By chance the answer stands in the middle of 36 unmasked items.
    assert np.mean(found) < 13
    if model.trained:
        assert np.mean(found) < 5, "of a user's group 6 items are left unmasked"


@EVERY
def test_training_tells_own_items_from_others_at_every_behaviour(name: str) -> None:
    records, _ = planted()
    scores = scores_of(learned(name, records), records.histories(np.arange(M)))
    for r, each in enumerate(records.sets):
        mine = torch.zeros(M, N, dtype=torch.bool)
        mine[torch.from_numpy(each.row_of_each()), torch.from_numpy(each.indices).long()] = True
        assert scores[:, r][mine].mean() > scores[:, r][~mine].mean()


@EVERY
def test_it_saves_and_loads_to_equal_scores(name: str, tmp_path: Path) -> None:
    records, _ = planted()
    model = learned(name, records, epochs=2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(99)
    other = make(name, {}, model.shape).eval()
    histories = records.histories(np.arange(M))
    fresh = scores_of(other, histories)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores_of(other, histories), scores_of(model, histories))
    assert not torch.equal(fresh, scores_of(model, histories)), "there was something to load"


@EVERY
def test_a_seed_decides_it(name: str) -> None:
    records, _ = planted()
    histories = records.histories(np.arange(M))
    one, same, other = (
        scores_of(learned(name, records, seed=seed, epochs=2), histories) for seed in (5, 5, 6)
    )
    assert torch.equal(one, same)
    if learned(name, records, epochs=0).trained:
        assert not torch.equal(one, other)


@EVERY
def test_a_batch_is_scored_as_one_by_one_and_some_items_as_all(name: str) -> None:
    records, _ = planted()
    model = learned(name, records, epochs=2)
    users = np.array([3, -1, 70, 3])
    histories = records.histories(users)
    together = scores_of(model, histories)
    for at in range(len(users)):
        alone = scores_of(model, histories.slice(at, at + 1))
        assert torch.allclose(alone[0], together[at], atol=1e-5)
    assert torch.equal(together[0], together[3])
    some = torch.tensor([N - 1, 0, 4])
    state = model.encode(histories)
    assert torch.allclose(
        model.score_behaviors(state, histories, some), together[:, :, some], atol=1e-5
    )
    assert torch.allclose(model.score(state, histories), together[:, -1], atol=1e-6)
    assert torch.allclose(model.score(state, histories, some), together[:, -1, some], atol=1e-5)


@EVERY
@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_it_works_with_one_to_four_behaviours(name: str, r: int) -> None:
    records, _ = planted(r)
    model = learned(name, records, epochs=1)
    scores = scores_of(model, records.histories(np.array([0, -1])))
    assert scores.shape == (2, r, N)
    assert torch.isfinite(scores).all()


@EVERY
def test_histories_of_another_shape_are_refused_with_what_came(name: str) -> None:
    records, _ = planted()
    model = make(name, {}, Shape(M, N, BEHAVIORS))
    fewer = Records(BEHAVIORS[:2], records.sets[:2]).histories(np.arange(3))
    with pytest.raises(ValueError, match=f"3 behaviours over {N} items, got 2 behaviours"):
        model.encode(fewer)
    wider = tuple(CSR(each.indptr, each.indices, N + 1) for each in records.sets)
    with pytest.raises(ValueError, match=f"got 3 behaviours over {N + 1} items"):
        model.encode(Records(BEHAVIORS, wider).histories(np.arange(3)))
    stranger = Histories(np.array([M]), records.histories(np.array([0])).items)
    with pytest.raises(ValueError, match=f"user index {M} is not below the model's {M} users"):
        model.encode(stranger)


@EVERY
def test_a_batch_of_another_shape_is_refused_with_what_came(name: str) -> None:
    records, _ = planted()
    model = make(name, {}, Shape(M, N, records.behaviors))
    zero = torch.zeros(2, dtype=torch.int64)
    if not model.trained or model.sweeps:
        with pytest.raises(TypeError, match="it has no loss"):
            model.loss(Batch(zero, zero, torch.ones(2, 3), torch.ones(2, 3)))
        return
    batch = next(batches(model, records.only(model.learns), Training()).epoch(0))
    columns = batch.target.shape[1]
    more = torch.ones(2, columns + 1)
    with pytest.raises(
        ValueError, match=rf"expected a batch of {columns} behaviours .*, got {columns + 1}"
    ):
        model.loss(Batch(zero, zero, more, more))
    right = torch.ones(2, columns)
    for user, item, said in (
        (M, 0, f"user indices from 0 to {M - 1}, got 0 to {M}"),
        (0, -1, f"item indices from 0 to {N - 1}, got -1 to 0"),
    ):
        with pytest.raises(ValueError, match=said):
            model.loss(Batch(torch.tensor([0, user]), torch.tensor([0, item]), right, right))


def test_a_batch_whose_parts_do_not_fit_is_refused_with_what_came() -> None:
    zero, two = torch.zeros(2, dtype=torch.int64), torch.ones(2, 2)
    with pytest.raises(ValueError, match=r"got \(2,\), \(3,\), \(2, 2\), \(2, 2\)"):
        Batch(zero, torch.zeros(3, dtype=torch.int64), two, two)
    with pytest.raises(ValueError, match=r"got \(2,\), \(2,\), \(2, 2\), \(2, 1\)"):
        Batch(zero, zero, two, two[:, :1])
    with pytest.raises(ValueError, match=r"got \(2,\), \(2,\), \(2,\), \(2,\)"):
        Batch(zero, zero, two[:, 0], two[:, 0])


@EVERY
def test_ranking_leaves_what_a_model_holds_untouched(name: str) -> None:
    records, _ = planted()
    model = learned(name, records, epochs=1)
    before = {key: each.clone() for key, each in model.state_dict().items()}
    for _ in score_blocks(model, records.histories(np.arange(M)), records.seen()):
        pass
    assert all(torch.equal(before[key], each) for key, each in model.state_dict().items())


@pytest.mark.parametrize("name", sorted(set(names()) - set(VARIANTS)))
def test_a_file_exports_a_frozen_config_and_a_model(name: str) -> None:
    module = importlib.import_module(f"nmtr.models.{name.replace('-', '_')}")
    assert issubclass(module.MODEL, Model)
    assert is_dataclass(module.Config)
    config: Any = module
    with pytest.raises(FrozenInstanceError):
        config.Config().anything = 1
    with pytest.raises(UsageError, match=f"model {name} has no option 'nonsense'"):
        make(name, {"nonsense": 1}, Shape(2, 2, BEHAVIORS))


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    for name in ("base", "losses", "nmtr-dot", ""):
        with pytest.raises(UsageError, match=r"unknown model .*popularity"):
            make(name, {}, Shape(2, 2, BEHAVIORS))


@EVERY
def test_what_an_index_holds_orders_items_as_scores_do(name: str) -> None:
    records, _ = planted()
    model = learned(name, records, epochs=2)
    histories = records.histories(np.array([3, -1, 70]))
    with torch.inference_mode():
        vectors, state = model.index_vectors(), model.encode(histories)
        if vectors is None:
            return
        products = model.index_queries(state) @ vectors[:, :-1].T + vectors[:, -1]
        lift = model.score(state, histories) - products
    most = 0 if model.cascade(state) is None else 1
    assert lift.min() > -1e-5
    assert lift.max() < most + 1e-5


def test_which_models_have_an_index() -> None:
    records, _ = planted()
    found = {
        name for name in names() if learned(name, records, epochs=0).index_vectors() is not None
    }
    assert {"nmtr-gmf", "nmtr-staged", "gmf", "cmf", "bpr", "mr-bpr", "ials", "lightgcn"} <= found
    assert not {"nmtr-mlp", "nmtr-neumf", "neumf", "ease", "itemknn", "popularity"} & found
