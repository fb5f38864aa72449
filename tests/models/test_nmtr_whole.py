"""NMTR without sampling against its loss written out pair by pair in double precision."""

from __future__ import annotations

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
from nmtr.models.nmtr_whole import WholeNMTR
from nmtr.training.settings import Settings
from nmtr.training.trainer import Training, batches, train
from nmtr.training.unused import check_used
from nmtr.training.whole import UserSampler

M, N, E = 20, 12, 4
NAMES = ("look", "hold", "keep")
TRANSFER = pytest.mark.parametrize("transfer", ["linear", "none"])


def random_cells() -> npt.NDArray[np.bool_]:
    """(R, M, N); user 7 has no record, user 8 only of the lowest, nobody has item 5."""
    found = np.random.default_rng(5).random((3, M, N)) < 0.25
    found[:, 7], found[1:, 8], found[:, :, 5] = False, False, False
    return found


def csr(cells: npt.NDArray[np.bool_]) -> CSR:
    users, items = np.nonzero(cells)
    return CSR.from_pairs(users, items, M, N)


CELLS = random_cells()
RECORDS = Records(NAMES, tuple(csr(each) for each in CELLS))


def new(**options: Any) -> WholeNMTR:
    torch.manual_seed(2)
    model = make("nmtr-whole", {"embedding": E, "init_std": 0.6} | options, Shape(M, N, NAMES))
    assert isinstance(model, WholeNMTR)
    model.learn(RECORDS)
    with torch.no_grad():
        for each in (model.h, model.turn, model.shift):
            each.add_(torch.randn(each.shape), alpha=0.4)
    return model


def of_users(users: list[int]) -> Batch:
    """All their records, and nothing of others."""
    mine = np.isin(np.arange(M), users)
    u, i = np.nonzero(CELLS.any(0) & mine[:, None])
    target = torch.from_numpy(CELLS[:, u, i].T.astype(np.float32))
    return Batch(torch.from_numpy(u), torch.from_numpy(i), target, target)


class Plain:
    """The model's equations, pair by pair; every weight is a float64 leaf."""

    def __init__(self, model: WholeNMTR) -> None:
        self.config = model.config
        self.leaves = {
            name: each.detach().double().clone().requires_grad_()
            for name, each in model.named_parameters()
        }

    def layers(self) -> list[Tensor]:
        if self.config.transfer == "none":
            return list(self.leaves["h"])
        found = [self.leaves["h"][0]]
        for turn, shift in zip(self.leaves["turn"], self.leaves["shift"], strict=True):
            found.append((turn * found[-1]).sum(1) + shift)
        return found

    def score(self, r: int, user: int, item: int) -> Tensor:
        p, q = self.leaves["user"][user], self.leaves["item"][item]
        return (self.layers()[r] * p * q).sum()

    def loss(self, users: list[int]) -> Tensor:
        lambdas = np.array(self.config.lambdas or (1.0,) * 3)
        total = torch.zeros((), dtype=torch.float64)
        for user in users:
            for item in range(N):
                for r, share in enumerate(lambdas / lambdas.sum()):
                    y = self.score(r, user, item)
                    own = CELLS[r, user, item]
                    part = (1 - y) ** 2 if own else self.config.missing * y**2
                    total = total + share * part
                if CELLS[:, user, item].any():
                    rows = self.leaves["user"][user], self.leaves["item"][item]
                    total = total + self.config.l2 / 2 * sum((row**2).sum() for row in rows)
        return total


@TRANSFER
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_the_loss_and_its_gradient_are_those_over_all_pairs(transfer: str, l2: float) -> None:
    model = new(transfer=transfer, l2=l2, missing=0.3, lambdas=(1, 2, 5))
    users = [2, 3, 8, 19]
    batch = of_users(users)
    loss = model.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    plain = Plain(model)
    expected = plain.loss(users) / len(batch)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, each in model.named_parameters():
        if not each.numel():
            continue  # layers on their own have no transfer
        other = plain.leaves[name].grad
        assert each.grad is not None
        found = each.grad.to_dense().double()
        wanted = torch.zeros_like(found) if other is None else other
        assert torch.allclose(found, wanted, atol=1e-5), name


@TRANSFER
def test_scores_are_the_plain_ones(transfer: str) -> None:
    model = new(transfer=transfer)
    plain = Plain(model)
    histories = RECORDS.histories(np.array([3, 8]))
    found = model.score_behaviors(model.encode(histories), histories)
    for row, user in enumerate([3, 8]):
        for r in range(3):
            expected = [plain.score(r, user, item).item() for item in range(N)]
            assert found[row, r].tolist() == pytest.approx(expected, abs=1e-5)


def test_only_the_batch_s_users_move() -> None:
    model = new()
    model.loss(of_users([2, 3])).backward()  # type: ignore[no-untyped-call]
    grad = model.user.grad
    assert grad is not None
    assert grad.is_sparse
    assert grad.coalesce().indices()[0].tolist() == [2, 3]


@pytest.mark.parametrize("size", [1, 16, 50, 1000])
def test_an_epoch_meets_each_user_once_with_all_records(size: int) -> None:
    sampler = UserSampler.from_records(RECORDS, batch_size=size, seed=4)
    every = list(sampler.epoch(0))
    assert len(every) == sampler.steps == -(-RECORDS.seen().nnz // size)
    users = [set(each.user.tolist()) for each in every]
    assert sum(map(len, users)) == len(set.union(*users)) == M - 1
    cells = np.zeros_like(CELLS)
    for each in every:
        assert torch.equal(each.target, each.weight)
        assert each.target.any(1).all()
        cells[:, each.user, each.item] = each.target.T.numpy() > 0
        assert len(each) <= size + RECORDS.seen().lengths().max()
    assert np.array_equal(cells, CELLS)
    other = [each.user.tolist() for each in sampler.epoch(1)]
    assert [each.user.tolist() for each in sampler.epoch(0)] == [e.user.tolist() for e in every]
    if 1 < size < 1000:
        assert other != [each.user.tolist() for each in every]


def test_batches_of_an_epoch_add_up_to_the_loss_of_all() -> None:
    model = new()
    drawn = batches(model, RECORDS, Training(batch_size=20))
    assert isinstance(drawn, UserSampler)
    total = sum(model.loss(each).item() * len(each) for each in drawn.epoch(0))
    known = [user for user in range(M) if user != 7]
    assert total == pytest.approx(Plain(model).loss(known).item(), rel=1e-4)


def test_training_lessens_the_loss_of_all_pairs() -> None:
    torch.manual_seed(0)
    model = make("nmtr-whole", {"embedding": E}, Shape(M, N, NAMES))
    assert isinstance(model, WholeNMTR)
    known = [user for user in range(M) if user != 7]
    before = Plain(model).loss(known).item()
    how = Training(learning_rate=0.2, batch_size=32)
    train(model, RECORDS, how, phase="refit", epochs=40)
    assert Plain(model).loss(known).item() < 0.5 * before


def test_a_visitor_s_vector_is_the_best_for_their_history() -> None:
    model = new(l2=0.2)
    fold = model.folding((4,))
    assert fold is not None
    with torch.no_grad():
        start = model.user.mean(0)[None]
        nobody = RECORDS.histories(np.array([-1]))
        p = fold(RECORDS.histories(np.array([3])), start, nobody)
        model.user[3] = p[0]
    plain = Plain(model)
    plain.loss([3]).backward()  # type: ignore[no-untyped-call]
    grad = plain.leaves["user"].grad
    assert grad is not None
    assert grad[3].abs().max() < 1e-4


def test_a_known_user_is_moved_by_what_is_new_alone() -> None:
    model = new(l2=0.2)
    fold = model.folding((4,))
    assert fold is not None
    start = model.user[[3]].detach()
    before = RECORDS.histories(np.array([3]))
    with torch.no_grad():
        assert torch.allclose(fold(before, start, before), start, atol=1e-4)
        item = int(np.flatnonzero(~CELLS[2, 3])[0])
        own = before.items[2].row(0).tolist()
        kept = CSR.from_pairs([0] * (len(own) + 1), [*own, item], 1, N)
        after = Histories(before.users, (*before.items[:2], kept))
        now = fold(after, start, before)
        scores = [model.score(each, before)[0, item].item() for each in (start, now)]
    assert scores[1] > scores[0]


def test_who_is_not_known_is_scored_by_the_mean_vector() -> None:
    model = new()
    found = model.encode(RECORDS.histories(np.array([-1, 7])))
    mean = model.user[[user for user in range(M) if user != 7]].mean(0)
    assert torch.allclose(found, mean.expand(2, -1), atol=1e-6)


def test_what_draws_negatives_is_refused() -> None:
    settings = Settings("nmtr-whole", "", {}, Training())
    for name in ("negatives", "negative_rule", "calibrate"):
        with pytest.raises(UsageError, match=f"nmtr-whole does not use '{name}'"):
            check_used(settings, [name], NAMES)
    with pytest.raises(ValueError, match="not divided among 2 processes"):
        next(UserSampler.from_records(RECORDS, batch_size=9, seed=0).epoch(0, world=2))
    with pytest.raises(ValueError, match="batch_size of 1 or more, got 0"):
        UserSampler.from_records(RECORDS, batch_size=0, seed=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedding": 0}, "embedding: expected 1 or more, got 0"),
        ({"missing": 0}, "expected missing > 0"),
        ({"transfer": "square"}, "square"),
        ({"dropout": 1}, "dropout: expected 0 <= dropout < 1, got 1"),
        ({"lambdas": "1,1"}, "expected 3 of them, one for each of look, hold, keep, got 2"),
        ({"lambdas": (0, 0, 0)}, "positive sum"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_came(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        new(**options)
