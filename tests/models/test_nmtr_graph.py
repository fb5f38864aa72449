"""NMTR on the graph against dense matrices in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Batch, Shape
from nmtr.models.nmtr_graph import GraphNMTR
from nmtr.training.trainer import Training, batches, train

M, N, E = 30, 12, 5
NAMES = ("look", "hold", "keep")
JOINS = pytest.mark.parametrize("join", ["own", "sum", "concat"])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_cells() -> list[npt.NDArray[np.bool_]]:
    """User 7 has no record, user 8 only of the lowest, nobody has item 5, nobody keeps item 3."""
    rng, found = np.random.default_rng(3), []
    for r in range(len(NAMES)):
        pairs = rng.random((M, N)) < 0.3
        pairs[7], pairs[8] = False, pairs[8] if r == 0 else False
        pairs[:, 5] = False
        found.append(pairs)
    found[-1][:, 3] = False
    return found


def csr(cells: npt.NDArray[np.bool_]) -> CSR:
    users, items = np.nonzero(cells)
    return CSR.from_pairs(users, items, M, N)


CELLS = random_cells()
RECORDS = Records(NAMES, tuple(csr(each) for each in CELLS))
EVERYONE = RECORDS.histories(np.arange(M))


def new(records: Records = RECORDS, **options: Any) -> GraphNMTR:
    torch.manual_seed(1)
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    model = make("nmtr-graph", {"embedding": E} | options, shape)
    assert isinstance(model, GraphNMTR)
    model.learn(records)
    return model


def trained(records: Records = RECORDS, *, epochs: int = 3, **options: Any) -> GraphNMTR:
    model = new(records, **options)
    config = Training(learning_rate=0.2, batch_size=32)
    train(model, records, config, phase="refit", epochs=epochs)
    return model


def scores(model: GraphNMTR, histories: Histories = EVERYONE) -> Tensor:
    return model.score_behaviors(model.encode(histories), histories).detach()


def plain_levels(start: Tensor, depth: int, cells: Any = CELLS) -> list[Tensor]:
    """R times (M + N, E): e^r of users and items, from e^0, by powers of dense adjacencies."""
    found = []
    for each in cells:
        whole = np.zeros((M + N, M + N))
        whole[:M, M:] = each
        whole += whole.T
        degree = whole.sum(0)
        scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
        graph = torch.from_numpy(scale[:, None] * whole * scale)
        layers = [torch.linalg.matrix_power(graph, k) @ start for k in range(depth + 1)]
        mean = torch.stack(layers).sum(0) / (depth + 1)
        start = start + mean / mean.square().sum(1, keepdim=True).sqrt()
        found.append(start)
    return found


def plain_score(levels: list[Tensor], r: int, join: str, user: int, item: int) -> Tensor:
    """z^r of a pair; item counts from M."""
    below = levels[: r + 1]
    if join == "own":
        return below[-1][user] @ below[-1][item]
    if join == "sum":
        return torch.stack(below).sum(0)[user] @ torch.stack(below).sum(0)[item]
    return torch.stack([each[user] @ each[item] for each in below]).sum()


@JOINS
@pytest.mark.parametrize("depth", [1, 3])
def test_the_loss_and_its_gradient_are_the_plain_ones(join: str, depth: int) -> None:
    model = new(join=join, layers=depth, l2=0.3, lambdas=(1, 2, 5))
    rows = [  # user, item, which behaviours it is recorded under, and which it is a negative of
        (2, 4, (1, 1, 1), (0, 0, 0)), (2, 0, (0, 0, 0), (1, 1, 1)), (2, 1, (0, 0, 0), (0, 1, 0)),
        (2, 3, (1, 0, 0), (0, 0, 0)), (2, 6, (0, 0, 0), (1, 0, 0)),
        (9, 6, (0, 1, 1), (0, 0, 0)), (9, 7, (0, 0, 0), (0, 1, 1)),
    ]  # fmt: skip
    user, item, target, other = (torch.tensor(each) for each in zip(*rows, strict=True))
    loss = model.loss(Batch(user, item, target.float(), (target + other).float()))
    loss.backward()  # type: ignore[no-untyped-call]
    start = torch.cat([model.user, model.item]).detach().double().requires_grad_()
    levels = plain_levels(start, depth)
    expected = start.new_zeros(())
    of_level = [
        [(2, 4, 0), (2, 3, 6)], [(2, 4, 0), (2, 4, 1), (9, 6, 7)], [(2, 4, 0), (9, 6, 7)]
    ]  # fmt: skip
    for r, (weight, met) in enumerate(zip((1 / 8, 2 / 8, 5 / 8), of_level, strict=True)):
        for u, i, j in met:
            margin = plain_score(levels, r, join, u, M + i) - plain_score(levels, r, join, u, M + j)
            norm = start[[u, M + i, M + j]].square().sum()
            part = -torch.log(torch.sigmoid(margin)) + 0.15 * norm
            expected = expected + weight * part / len(met)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert start.grad is not None
    assert model.user.grad is not None
    assert model.item.grad is not None
    found = torch.cat([model.user.grad, model.item.grad])
    assert torch.allclose(found.double(), start.grad, atol=2e-6)


@JOINS
def test_users_met_by_their_training_histories_have_the_graphs_vectors(join: str) -> None:
    model = trained(join=join, layers=2)
    start = torch.cat([model.user, model.item]).detach().double()
    levels = plain_levels(start, 2)
    found = scores(model)
    for user in np.setdiff1d(np.arange(M), [7]):
        for r in range(3):
            expected = [float(plain_score(levels, r, join, user, M + i)) for i in range(N)]
            assert found[user, r].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_level_starts_from_the_one_below() -> None:
    """Records of a lower behaviour move what is said of the higher; the other way they do not."""
    user = np.argmax(RECORDS.target.lengths(), keepdims=True)
    (low, *above), (*below, high) = RECORDS.sets, RECORDS.sets
    low, high = (each.without(user, each.row(int(user[0]))[:1]) for each in (low, high))
    start, lower, upper = (
        new(),
        new(Records(NAMES, (low, *above))),
        new(Records(NAMES, (*below, high))),
    )
    others = RECORDS.histories(np.setdiff1d(np.arange(M), user))
    whole, less, top = (scores(model, others) for model in (start, lower, upper))
    assert (whole - less).abs().amax((0, 2)).min() > 1e-4
    assert (whole - top)[:, 2].abs().max() > 1e-4
    assert torch.equal(whole[:, :2], top[:, :2])


def test_a_stranger_is_scored_as_a_user_who_joined_the_graphs_with_no_e0() -> None:
    model, known = trained(), RECORDS.histories(np.array([3, 11]))
    found = scores(model, replace(known, users=np.array([-1, -1])))
    with torch.no_grad():
        model.user[[3, 11]] = 0
    assert torch.allclose(found, scores(model, known), atol=1e-5)


def test_without_a_history_one_is_scored_as_the_average_of_those_who_have_one() -> None:
    model = trained()
    found = scores(model, RECORDS.histories(np.array([-1, 7])))
    mean = scores(model, RECORDS.histories(np.setdiff1d(np.arange(M), [7]))).mean(0)
    for each in found:
        assert torch.allclose(each, mean, atol=1e-5)
    assert mean.std() > 0


def test_a_behaviour_of_weight_zero_is_in_the_cascade_and_not_learned_from() -> None:
    model = new(lambdas=(0, 0, 1))
    assert model.learns == ("keep",)
    drawn = next(batches(model, RECORDS.only(model.learns), Training(batch_size=64)).epoch(0))
    loss = model.loss(drawn)
    padded = [
        torch.cat([torch.zeros(len(drawn), 2), each], 1) for each in (drawn.target, drawn.weight)
    ]
    whole = new(lambdas=(1e-9, 1e-9, 1)).loss(Batch(drawn.user, drawn.item, *padded))
    assert loss.item() == pytest.approx(whole.item(), rel=1e-4)


def test_hidden_pairs_are_in_no_graph_of_their_epoch_and_in_those_that_score() -> None:
    model = new(hide=0.5)
    seen = []
    for epoch in range(2):
        model.begin(epoch)
        kept = [
            np.repeat(np.arange(M), np.diff(g.edges("user")[0])) * N + g.edges("user")[1].numpy()
            for g in model.visible
        ]
        keys = [each.keys() for each in RECORDS.sets]
        left = set(np.concatenate(kept).tolist())
        assert 0.3 < len(left) / len(RECORDS.seen().keys()) < 0.7
        for own, every in zip(kept, keys, strict=True):
            assert set(own.tolist()) == left & set(every.tolist())
        seen.append(left)
    assert seen[0] != seen[1]
    assert torch.equal(scores(model), scores(new()))
    drawn = next(batches(model, RECORDS, Training(batch_size=64)).epoch(0))
    assert model.loss(drawn).item() != pytest.approx(new().loss(drawn).item(), rel=1e-4)


def test_what_is_saved_is_what_training_made_last() -> None:
    model = trained(epochs=2)
    state = {name: each.clone() for name, each in model.state_dict().items()}
    opened = make("nmtr-graph", {"embedding": E}, model.shape)
    opened.load_state_dict(state)
    assert isinstance(opened, GraphNMTR)
    assert torch.equal(scores(opened), scores(model))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": 0}, "embedding and layers must be positive, got 5 and 0"),
        ({"join": "max"}, "max"),
        ({"l2": -1}, "expected l2 >= 0 and init_std > 0, got -1.0 and 0.1"),
        ({"lambdas": "1,1"}, "expected 3 of them, one for each of look, hold, keep, got 2"),
        ({"lambdas": (0, 0, 0)}, "positive sum"),
        ({"hide": 1}, "hide: expected a share from 0 to below 1, got 1"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_came(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        new(**options)
