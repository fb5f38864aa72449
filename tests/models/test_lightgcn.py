"""LightGCN against the plain algorithm: dense matrices in double precision, and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import Tensor

from nmtr.data.records import CSR, Records
from nmtr.data.weighted import weighted_sum
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Batch, Shape
from nmtr.models.graph import Graph, LayerMean
from nmtr.models.kernels.triples import TripleLoss
from nmtr.models.lightgcn import LightGCN
from nmtr.models.losses import pairwise_loss
from nmtr.training.trainer import Training, batches, train

M, N, E = 30, 12, 5
NAMES = ("look", "hold", "keep")
WEIGHTS = (0.2, 0.5, 1.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_records() -> Records:
    """Every behaviour at random; user 7 has none, user 8 only the lowest, nobody has item 5."""
    rng = np.random.default_rng(3)
    sets = []
    for r in range(len(NAMES)):
        pairs = rng.random((M, N)) < 0.3
        pairs[7], pairs[8] = False, pairs[8] if r == 0 else False
        pairs[:, 5] = False
        users, items = np.nonzero(pairs)
        sets.append(CSR.from_pairs(users, items, M, N))
    return Records(NAMES, tuple(sets))


RECORDS = random_records()
EVERYONE = RECORDS.histories(np.arange(M))


def new(records: Records = RECORDS, **options: Any) -> LightGCN:
    torch.manual_seed(1)
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    model = make("lightgcn", {"embedding": E} | options, shape)
    assert isinstance(model, LightGCN)
    model.learn(records)
    return model


def trained(records: Records = RECORDS, *, epochs: int = 3, **options: Any) -> LightGCN:
    model = new(records, **options)
    config = Training(learning_rate=0.2, batch_size=16)
    train(model, records, config, phase="refit", epochs=epochs)
    return model


def batch_of(model: LightGCN, records: Records = RECORDS, **how: Any) -> Batch:
    return next(batches(model, records.only(model.learns), Training(**how)).epoch(0))


def scores(model: LightGCN, histories: Any = EVERYONE) -> Tensor:
    return model.score(model.encode(histories), histories).detach()


def means(user: Tensor, item: Tensor, graph: Graph, depth: int) -> tuple[Tensor, Tensor]:
    users, items = LayerMean.apply(user, item, graph, depth)  # type: ignore[no-untyped-call]
    return users, items


def adjacency(x: npt.NDArray[np.floating]) -> Tensor:
    """(M + N, M + N) the whole graph's, normalised, of weights x (M, N)."""
    whole = np.zeros((sum(x.shape),) * 2)
    whole[: len(x), len(x) :] = x
    whole += whole.T
    degree = whole.sum(0)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-30)), 0)
    return torch.from_numpy(scale[:, None] * whole * scale)


def smoothed(x: npt.NDArray[np.floating], layer: Tensor, depth: int) -> Tensor:
    """(M + N, E) the mean of layers 0 to depth, one power of the adjacency after the other."""
    graph = adjacency(x)
    powers = [torch.linalg.matrix_power(graph, k) @ layer for k in range(depth + 1)]
    return torch.stack(powers).mean(0)


def test_a_step_of_propagation_by_hand() -> None:
    """Two users keep item 0, one of them item 1 too: degrees 1, 2 and 2, 1."""
    graph = Graph(csr_array(np.array([[1, 0], [1, 1]], np.float32)))
    user, item = torch.tensor([[1.0], [10.0]]), torch.tensor([[100.0], [1000.0]])
    users, items = means(user, item, graph, 1)
    by_sqrt_2, half = 2**-0.5, 1 / 2
    wanted = [(1 + by_sqrt_2 * 100) / 2, (10 + half * 100 + by_sqrt_2 * 1000) / 2]
    assert users.flatten().tolist() == pytest.approx(wanted)
    wanted = [(100 + by_sqrt_2 * 1 + half * 10) / 2, (1000 + by_sqrt_2 * 10) / 2]
    assert items.flatten().tolist() == pytest.approx(wanted)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 6), st.integers(1, 4), st.floats(0, 1), st.integers(0, 999)
)
def test_layers_and_their_gradients_are_those_of_the_dense_graph(
    users: int, items: int, depth: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([0.3, 1, 2.3], (users, items)) * (rng.random((users, items)) < share)
    plain = torch.from_numpy(rng.normal(size=(users + items, E))).requires_grad_()
    toward = torch.from_numpy(rng.normal(size=(users + items, E)))
    expected = smoothed(x, plain, depth)
    (expected * toward).sum().backward()  # type: ignore[no-untyped-call]
    layer = plain.detach().float().requires_grad_()
    graph = Graph(csr_array(x.astype(np.float32)))
    found = torch.cat(means(layer[:users], layer[users:], graph, depth))
    (found * toward.float()).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert plain.grad is not None
    assert layer.grad is not None
    assert torch.allclose(layer.grad.double(), plain.grad, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_loss_and_its_gradient_are_the_plain_one_s(threads: int) -> None:
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    u, i, j = (torch.from_numpy(rng.integers(0, size, 3000)) for size in (M, N, N))
    u = u.sort().values
    for scale in (0.1, 30.0):  # margins near nothing, and far out
        p, q = (torch.from_numpy(rng.normal(0, scale, (n, E))).float() for n in (M, N))
        leaves = [each.clone().requires_grad_() for each in (p, q)]
        others = [each.double().requires_grad_() for each in (p, q)]
        loss = TripleLoss.apply(*leaves, u, i, j)  # type: ignore[no-untyped-call]
        expected = pairwise_loss(others[0], others[1], u, i, j)
        (2 * loss).backward()
        (2 * expected).backward()  # type: ignore[no-untyped-call]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        for leaf, other in zip(leaves, others, strict=True):
            assert leaf.grad is not None
            assert other.grad is not None
            assert torch.allclose(leaf.grad.double(), other.grad, rtol=1e-4, atol=1e-6 * scale)


def test_a_batch_s_loss_pairs_each_positive_with_its_own_negatives() -> None:
    model = new(weights=WEIGHTS, layers=2, l2=0.3)
    rows = [(2, 4, 1.0), (2, 0, 0.0), (2, 1, 0.0), (2, 3, 1.0), (9, 6, 1.0), (9, 7, 0.0)]
    user, item, target = (torch.tensor(each) for each in zip(*rows, strict=True))
    labels = target[:, None]
    loss = model.loss(Batch(user, item, labels, torch.ones_like(labels)))
    loss.backward()  # type: ignore[no-untyped-call]
    x = weighted_sum(RECORDS.sets, WEIGHTS).toarray()
    layer = torch.cat([model.user, model.item]).detach().double().requires_grad_()
    whole = smoothed(x, layer, 2)
    expected = layer.new_zeros(())
    for u, i, j in [(2, 4, 0), (2, 4, 1), (9, 6, 7)]:
        rows_met = [u, M + i, M + j]
        p, q, other = whole[rows_met]
        norm = layer[rows_met].square().sum()
        expected = expected - torch.log(torch.sigmoid(p @ q - p @ other)) + 0.15 * norm
    expected = expected / 3
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert layer.grad is not None
    assert model.user.grad is not None
    assert model.item.grad is not None
    found = torch.cat([model.user.grad, model.item.grad])
    assert torch.allclose(found.double(), layer.grad, atol=1e-6)


def test_negatives_are_of_the_positive_s_user_and_not_theirs() -> None:
    model = new()
    batch = batch_of(model, negatives=(3,))
    user, item, target = (each.numpy() for each in (batch.user, batch.item, batch.target[:, 0]))
    mine = RECORDS.target.contains(user, item)
    assert np.array_equal(mine, target == 1)
    assert np.array_equal(np.flatnonzero(target), np.arange(0, len(target), 4))


def test_users_met_by_their_training_histories_have_the_graph_s_vectors() -> None:
    model = trained(weights=WEIGHTS)
    layer = torch.cat([model.user, model.item]).detach().double()
    whole = smoothed(weighted_sum(RECORDS.sets, WEIGHTS).toarray(), layer, 3)
    expected = whole[:M] @ whole[M:].T
    some = np.setdiff1d(np.arange(M), [7])
    assert torch.allclose(scores(model)[some].double(), expected[some], atol=1e-4)


def test_a_stranger_is_scored_as_a_user_who_joined_the_graph_with_no_layer_0() -> None:
    model, known = trained(weights=WEIGHTS), RECORDS.histories(np.array([3, 11]))
    found = scores(model, replace(known, users=np.array([-1, -1])))
    users = model.encode(known) - model.user[[3, 11]] / 4
    assert torch.allclose(found, users @ model.items.T, atol=1e-5)
    assert not torch.allclose(found, scores(model, known), atol=1e-2)


def test_without_a_history_one_is_scored_as_the_average_of_those_who_have_one() -> None:
    model = trained()
    found = scores(model, RECORDS.histories(np.array([-1, 7, 8])))  # 8 has none that counts
    others = np.setdiff1d(np.arange(M), [7, 8])
    mean = scores(model, RECORDS.histories(others)).mean(0)
    for each in found:
        assert torch.allclose(each, mean, atol=1e-5)
    assert mean.std() > 0


def test_one_who_was_not_in_the_graph_is_met_by_what_they_did_since() -> None:
    model = trained()
    since = replace(RECORDS.histories(np.array([3])), users=np.array([7]))
    stranger = replace(since, users=np.array([-1]))
    assert torch.equal(scores(model, since), scores(model, stranger))


def test_a_behaviour_of_weight_zero_is_as_good_as_absent() -> None:
    two = Records(NAMES[1:], RECORDS.sets[1:])
    one = Records(NAMES[2:], RECORDS.sets[2:])
    for given_, fewer, left in (((0.0, 0.5, 1.0), two, (0.5, 1.0)), ((), one, ())):
        with_it, without = trained(weights=given_), trained(fewer, weights=left)
        alone = fewer.histories(np.arange(M))
        assert torch.equal(scores(with_it), scores(without, alone))
    assert not torch.allclose(scores(trained(weights=WEIGHTS)), scores(trained()), atol=1e-2)


def test_what_is_saved_is_what_training_made_last() -> None:
    model = trained(epochs=2)
    state = {name: each.clone() for name, each in model.state_dict().items()}
    opened = make("lightgcn", {"embedding": E}, model.shape)
    opened.load_state_dict(state)
    assert isinstance(opened, LightGCN)
    assert torch.equal(scores(opened), scores(model))
    model.loss(batch_of(model)).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.item.add_(1)
    assert not torch.equal(model.state_dict()["items"], state["items"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": 0}, "embedding and layers must be positive, got 5 and 0"),
        ({"embedding": 0}, "embedding and layers must be positive, got 0 and 3"),
        ({"l2": -1}, "expected l2 >= 0 and init_std > 0, got -1.0 and 0.1"),
        ({"init_std": "nan"}, "expected a number, got 'nan'"),
        ({"weights": "1,1"}, "expected 3 of them, one for each of look, hold, keep, got 2"),
        ({"weights": (0, 0, 0)}, "positive sum"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_came(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        new(**options)
