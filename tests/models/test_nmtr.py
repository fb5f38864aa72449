"""NMTR against its equations, written out pair by pair in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.models.base import Batch, Shape
from nmtr.models.kernels.cascade import LEAST
from nmtr.models.nmtr import NMTR, Config
from nmtr.training.optim import make_optimizer

M, N, B = 6, 9, 40
NAMES = ("one", "two", "three", "four")
UNITS = ("gmf", "mlp", "neumf")
CASCADES = ("probability", "logit", "product", "none")
EVERY = pytest.mark.parametrize(
    ("unit", "cascade", "r"),
    [(unit, cascade, r) for unit in UNITS for cascade in CASCADES for r in (1, 2, 4)],
)


def make(unit: str = "gmf", cascade: str = "probability", r: int = 3, **more: Any) -> NMTR:
    torch.manual_seed(3)
    config = Config(unit=unit, cascade=cascade, embedding=5, layers=(7, 4, 3), init_std=0.7, **more)  # type: ignore[arg-type]
    model = NMTR(config, Shape(M, N, NAMES[:r]))
    with torch.no_grad():
        for name, each in model.named_parameters():
            if name == "bias" or name.endswith((".h", ".bias")):
                each.normal_(0, 0.5)
    return model.eval()


def batch_of(r: int, *, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.0, 1.0, 2.5], (B, r), p=[0.5, 0.3, 0.2])
    weight[0] = 0  # a row without any task
    weight[1] = 1
    return Batch(
        torch.from_numpy(rng.integers(0, M, B)),
        torch.from_numpy(rng.integers(0, N, B)),
        torch.from_numpy(rng.integers(0, 2, (B, r)).astype(np.float32)),
        torch.from_numpy(weight.astype(np.float32)),
    )


def nobody_s_items(users: Sequence[int], r: int, n_items: int = N) -> Histories:
    empty = CSR(np.zeros(M + 1, np.int64), np.zeros(0, np.int32), n_items)
    return Records(NAMES[:r], (empty,) * r).histories(np.array(users))


class Paper:
    """The paper's equations over one pair at a time; every weight is a float64 leaf."""

    def __init__(self, model: NMTR) -> None:
        self.config, self.r = model.config, model.shape.n_behaviors
        self.leaves = {
            name: each.detach().double().clone().requires_grad_()
            for name, each in model.named_parameters()
        }

    def f(self, r: int, p: Tensor, q: Tensor) -> Tensor:
        """The interaction unit of behaviour r (NCF: GMF, MLP, NeuMF)."""
        total = p.new_zeros(())
        if self.config.unit in ("gmf", "neumf"):
            h = self.leaves[f"units.{r}.{'gmf.' * (self.config.unit == 'neumf')}h"]
            for e in range(len(p)):
                total = total + h[e] * p[e] * q[e]
        if self.config.unit in ("mlp", "neumf"):
            at = f"units.{r}.{'mlp.' * (self.config.unit == 'neumf')}"
            first_p = self.leaves[f"{at}tower.first_p.weight"]
            joined = torch.cat([first_p, self.leaves[f"{at}tower.first_q.weight"]], 1)
            hidden = joined @ torch.cat([p, q]) + self.leaves[f"{at}tower.first_p.bias"]
            hidden = hidden.clamp(min=0)
            for layer in range(len(self.config.layers) - 1):
                weight = self.leaves[f"{at}tower.rest.{layer}.weight"]
                hidden = (weight @ hidden + self.leaves[f"{at}tower.rest.{layer}.bias"]).clamp(
                    min=0
                )
            total = total + self.leaves[f"{at}h"] @ hidden
        return total

    def logits(self, p: Tensor, item: int) -> list[Tensor]:
        found: list[Tensor] = []
        for r in range(self.r):
            own = self.f(r, p, self.leaves["item"][item]) + self.leaves["bias"][item, r]
            if r and self.config.cascade == "probability":
                own = 1 / (1 + torch.exp(-found[-1])) + own
            elif r and self.config.cascade == "logit":
                own = (found[-1] + own) / 2
            elif r and self.config.cascade == "product":
                y = 1 / (1 + torch.exp(-found[-1])) / (1 + torch.exp(-own))
                own = torch.log(y / (1 - y))
            found.append(own)
        return found

    def loss(self, batch: Batch) -> Tensor:
        """Eq. 5 with weights for the samples, per labelled pair, and L2 on the rows met."""
        lambdas = self.config.lambdas or (1.0,) * self.r
        total = torch.zeros((), dtype=torch.float64)
        for b in range(len(batch)):
            user, item = int(batch.user[b]), int(batch.item[b])
            for r, z in enumerate(self.logits(self.leaves["user"][user], item)):
                y = 1 / (1 + torch.exp(-z))
                chance = y if batch.target[b, r] else 1 - y
                share = lambdas[r] / math.fsum(lambdas)
                total = total - share * float(batch.weight[b, r]) * torch.log(chance)
            rows = (self.leaves["user"][user], self.leaves["item"][item], self.leaves["bias"][item])
            total = total + self.config.l2 / 2 * sum((row**2).sum() for row in rows)
        return total / len(batch)


def gradients(model: NMTR, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, each in model.named_parameters():
        assert each.grad is not None, name
        found[name] = each.grad.to_dense()
    return found


@EVERY
def test_scores_are_the_paper_s(unit: str, cascade: str, r: int) -> None:
    model = make(unit, cascade, r)
    paper = Paper(model)
    histories = nobody_s_items([0, 4, 2], r)
    state = model.encode(histories)
    scores = model.score_behaviors(state, histories)
    assert scores.shape == (3, r, N)
    for row, user in enumerate([0, 4, 2]):
        for item in range(N):
            expected = [z.item() for z in paper.logits(paper.leaves["user"][user], item)]
            assert scores[row, :, item].tolist() == pytest.approx(expected, abs=2e-5)
    assert torch.equal(model.score(state, histories), scores[:, -1])
    some = torch.tensor([8, 0, 3])
    picked = model.score_behaviors(state, histories, some)
    assert torch.allclose(picked, scores[:, :, some], atol=1e-6)
    users, items = torch.tensor([0, 4, 2]), torch.tensor([5, 5, 1])
    pairs = model.pair_logits(users, items)
    assert torch.allclose(pairs, scores[torch.arange(3), :, items], atol=1e-5)


@EVERY
def test_the_plain_loss_and_its_gradients_are_the_paper_s(unit: str, cascade: str, r: int) -> None:
    model = make(unit, cascade, r, l2=0.03, lambdas=(1.0, 2.0, 0.5, 4.0)[:r])
    paper, batch = Paper(model), batch_of(r)
    expected = paper.loss(batch)
    expected.backward()  # type: ignore[no-untyped-call]
    loss = model.plain_loss(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, grad in gradients(model, loss).items():
        wanted = paper.leaves[name].grad
        assert wanted is not None
        assert torch.allclose(grad.double(), wanted, atol=2e-6), name


@EVERY
@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_the_fused_loss_is_the_paper_s_too(unit: str, cascade: str, r: int, l2: float) -> None:
    model = make(unit, cascade, r, l2=l2, lambdas=(3.0, 1.0, 0.5, 2.0)[:r])
    paper, batch = Paper(model), batch_of(r, seed=r)
    expected = paper.loss(batch)
    expected.backward()  # type: ignore[no-untyped-call]
    loss = model.loss(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, grad in gradients(model, 3 * loss).items():
        wanted = paper.leaves[name].grad
        assert wanted is not None
        assert torch.allclose(grad.double(), 3 * wanted, atol=5e-6), name


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ordered", [True, False])
def test_threads_share_a_batch_and_agree_with_one(unit: str, ordered: bool) -> None:
    rows, users, items = 5 * LEAST, 300, 500
    rng = np.random.default_rng(1)
    shape = Shape(users, items, NAMES[:3])
    model = NMTR(Config(unit=unit, embedding=8, layers=(20, 6), init_std=0.7, l2=0.1), shape)  # type: ignore[arg-type]
    user = rng.integers(0, users, rows)
    batch = Batch(
        torch.from_numpy(np.sort(user) if ordered else user),
        torch.from_numpy(rng.integers(0, items, rows)),
        torch.from_numpy(rng.integers(0, 2, (rows, 3)).astype(np.float32)),
        torch.from_numpy(rng.integers(0, 2, (rows, 3)).astype(np.float32)),
    )
    threads, found = torch.get_num_threads(), []
    try:
        for each in (1, 4):
            torch.set_num_threads(each)
            loss = model.loss(batch)
            found.append((loss.item(), gradients(model, loss)))
    finally:
        torch.set_num_threads(threads)
    plain = gradients(model, model.plain_loss(batch))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, grad in plain.items():
        for _, grads in found:
            assert torch.allclose(grads[name], grad, atol=2e-7, rtol=1e-4), name


@pytest.mark.parametrize("option", [{"dropout": 0.5}, {"activation": "tanh"}])
def test_what_the_kernel_does_not_know_goes_the_plain_way(option: dict[str, Any]) -> None:
    model, batch = make("mlp", **option).train(), batch_of(3)
    torch.manual_seed(0)
    loss = model.loss(batch)
    torch.manual_seed(0)
    assert loss.item() == model.plain_loss(batch).item()


def test_a_pair_s_log_loss_by_hand() -> None:
    # One user, one item, p . q = 1: z1 = 1, z2 = sigmoid(1) + 1 (eq. 4).
    model = NMTR(Config(embedding=2), Shape(1, 1, ("low", "high")))
    with torch.no_grad():
        model.user.copy_(torch.tensor([[1.0, 0.0]]))
        model.item.copy_(torch.tensor([[1.0, 5.0]]))
    one, both = torch.zeros(1, dtype=torch.int64), torch.ones(1, 2)
    batch = Batch(one, one, torch.tensor([[1.0, 0.0]]), both)
    y1 = 1 / (1 + math.exp(-1))
    y2 = 1 / (1 + math.exp(-y1 - 1))
    expected = -(math.log(y1) + math.log(1 - y2)) / 2
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-6)
    assert model.plain_loss(batch).item() == pytest.approx(expected, rel=1e-6)


def test_an_mlp_can_start_as_agreement() -> None:
    # sign(a b) min(|a|, |b|), summed over the dimensions
    config = Config(unit="mlp", embedding=3, layers=(12,), mlp_init="agreement")
    model = NMTR(config, Shape(2, 2, ("low", "high")))
    with torch.no_grad():
        model.user[0] = torch.tensor([0.5, -2.0, 1.0])
        model.item[0] = torch.tensor([0.2, -3.0, -4.0])
    logits = model.pair_logits(torch.tensor([0]), torch.tensor([0]))
    agreement = 0.2 + 2.0 - 1.0
    expected = [agreement, agreement + 1 / (1 + math.exp(-agreement))]
    assert logits[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"embedding": 8, "layers": (31,)},
        {"embedding": 8, "layers": (32, 16)},
        {"embedding": 8, "layers": (32,), "activation": "tanh"},
    ],
)
def test_agreement_needs_one_layer_of_four_relus_a_dimension(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"mlp_init=agreement: expected one layer .* = 32 relu"):
        Config(unit="mlp", mlp_init="agreement", **options)


@pytest.mark.parametrize("unit", UNITS)
def test_an_mlp_can_learn_more_slowly_than_the_rest(unit: str) -> None:
    moved = []
    for share in (1.0, 0.25):
        model, batch = make(unit, mlp_rate=share), batch_of(3)
        before = {name: each.detach().clone() for name, each in model.named_parameters()}
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        shares = model.rate_shares()
        make_optimizer("sgd", model.named_parameters(), rate=0.1, shares=shares).step()
        moved.append({n: each.detach() - before[n] for n, each in model.named_parameters()})
    for name, step in moved[0].items():
        slow = ".tower." in name or (unit != "gmf" and name.endswith(".h") and ".gmf." not in name)
        assert torch.allclose(moved[1][name], step * (0.25 if slow else 1), atol=1e-7), name
