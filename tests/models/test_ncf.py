"""NCF on the target alone, NeuMF's two towers, their pre-training, and MC-NCF beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Records
from nmtr.models import nmtr
from nmtr.models.base import Batch, Shape
from nmtr.models.mc_ncf import MCNCF
from nmtr.models.mc_ncf import Config as MCConfig
from nmtr.models.ncf import NCF, Config
from nmtr.training.trainer import Training, train

M, N = 12, 9
BEHAVIORS = ("glance", "keep")
SMALL: dict[str, Any] = {"embedding": 4, "layers": (6, 3), "init_std": 0.5}


def new(**options: Any) -> NCF:
    torch.manual_seed(1)
    model = NCF(Config(**{**SMALL, **options}), Shape(M, N, BEHAVIORS))
    with torch.no_grad():
        for name, each in model.named_parameters():
            if name.endswith("bias"):
                each.normal_(0, 0.5)
    return model


def batch_of(rows: int = 50) -> Batch:
    rng = np.random.default_rng(2)
    return Batch(
        torch.from_numpy(np.sort(rng.integers(0, M, rows))),
        torch.from_numpy(rng.integers(0, N, rows)),
        torch.from_numpy(rng.integers(0, 2, (rows, 1)).astype(np.float32)),
        torch.from_numpy(rng.choice([1.0, 2.0], (rows, 1)).astype(np.float32)),
    )


def records() -> Records:
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, M, 60), rng.integers(0, N, 60)
    keep = (rng.random(60) < 0.5) & (users > 0)  # user 0 has no target record
    return Records(
        BEHAVIORS,
        (CSR.from_pairs(users, items, M, N), CSR.from_pairs(users[keep], items[keep], M, N)),
    )


def gradients(model: NCF, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    found = {name: each.grad for name, each in model.named_parameters()}
    return {name: each.to_dense() for name, each in found.items() if each is not None}


def unit(model: NCF, tower: int, batch: Batch) -> Tensor:
    """A tower's logits of the batch's pairs, (B, 1)."""
    return model.towers[tower].pair_logits(batch.user, batch.item)


def test_neumf_is_the_log_loss_of_its_towers_mean_with_l2_on_what_is_met() -> None:
    model, batch = new(unit="neumf", l2=0.3, mlp_l2=0.2), batch_of()
    y = torch.sigmoid((unit(model, 0, batch) + unit(model, 1, batch)) / 2)
    likelihood = batch.target * y.log() + (1 - batch.target) * (1 - y).log()
    squares = torch.zeros(())
    for each in model.towers:
        rows = (each.user[batch.user], each.item[batch.item], each.bias[batch.item])
        squares = squares + sum(row.square().sum() for row in rows)
    own = [p for name, p in model.towers[1].named_parameters() if name.startswith("units")]
    wanted = (0.15 * squares - (batch.weight * likelihood).sum()) / len(batch)
    wanted = wanted + 0.1 * sum(p.square().sum() for p in own)
    assert model.loss(batch).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_neumf_s_kernel_has_the_gradient_of_the_plain_loss() -> None:
    model, batch = new(unit="neumf", l2=0.3, mlp_l2=0.2), batch_of()
    fused = gradients(model, batch)
    model._fused = model._plain  # type: ignore[method-assign]
    plain = gradients(model, batch)
    assert fused.keys() == plain.keys() == dict(model.named_parameters()).keys()
    for name, each in plain.items():
        assert torch.allclose(fused[name], each, atol=1e-6), name
        assert each.abs().max() > 1e-4, name


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"activation": "tanh"}])
def test_neumf_trains_where_there_is_no_kernel(options: dict[str, Any]) -> None:
    model, batch = new(unit="neumf", **options), batch_of()
    assert all(each.isfinite().all() for each in gradients(model, batch).values())
    one, other = model.loss(batch).item(), model.loss(batch).item()
    assert (one == other) == ("dropout" not in options)


def test_before_pre_training_ends_each_tower_learns_from_its_own_loss_alone() -> None:
    model, batch = new(unit="neumf", pretrain=2), batch_of()
    for epoch, apart in ((0, True), (1, True), (2, False)):
        model.begin(epoch)
        one = gradients(model, batch)
        before = model.towers[1].bias.detach().clone()
        with torch.no_grad():
            model.towers[1].bias.add_(1)
        other = gradients(model, batch)
        with torch.no_grad():
            model.towers[1].bias.copy_(before)
        mine = [name for name in one if name.startswith("_towers.0.")]
        assert all(torch.equal(one[name], other[name]) for name in mine) == apart
        if apart:
            losses = [each.loss(batch).item() for each in model.towers]
            assert model.loss(batch).item() == pytest.approx(sum(losses))


@pytest.mark.parametrize("name", ["gmf", "mlp"])
def test_one_tower_is_the_first_level_of_nmtr_on_the_target(name: Any) -> None:
    given, how = records(), Training(batch_size=16)
    alone = Records(BEHAVIORS[1:], given.sets[1:])
    torch.manual_seed(1)
    ours = NCF(Config(**{**SMALL, "unit": name}), Shape(M, N, BEHAVIORS))
    torch.manual_seed(1)
    theirs = nmtr.NMTR(nmtr.Config(**{**SMALL, "unit": name}), Shape(M, N, BEHAVIORS[1:]))
    train(ours, given, how, phase="refit", epochs=2)
    train(theirs, alone, how, phase="refit", epochs=2)
    assert torch.equal(ours.towers[0].user, theirs.user)
    users = np.arange(1, M)
    histories, single = given.histories(users), alone.histories(users)
    scores = ours.eval().score_behaviors(ours.encode(histories), histories)
    assert torch.equal(scores[:, -1], theirs.eval().score(theirs.encode(single), single))
    assert torch.equal(scores[:, 0], scores[:, -1]), "it knows the target only"


def test_who_has_no_target_record_is_scored_as_a_stranger() -> None:
    model, given = new(unit="neumf"), records()
    model.learn(given)
    assert not given.target.lengths()[0]
    assert given.sets[0].lengths()[0]
    found = model.encode(given.histories(np.array([0, -1, 1])))
    known = torch.from_numpy(given.target.lengths() > 0)
    means = [each.user[known].mean(0) for each in model.towers]
    assert torch.allclose(found[0], torch.cat(means), atol=1e-6)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], torch.cat([each.user[1] for each in model.towers]))


def test_multi_channel_ncf_ranks_what_is_kept_above_what_was_glanced_at_above_the_rest() -> None:
    users = np.repeat(np.arange(M), 4)
    items = (users % 2) * 4 + np.tile(np.arange(4), M)
    some = items % 4 < 2
    sets = (CSR.from_pairs(users, items, M, N), CSR.from_pairs(users[some], items[some], M, N))
    given = Records(BEHAVIORS, sets)
    torch.manual_seed(0)
    model = MCNCF(MCConfig(unit="gmf", embedding=8, beta=0.5), Shape(M, N, BEHAVIORS))
    train(model, given, Training(learning_rate=0.1, batch_size=32), phase="refit", epochs=30)
    histories = given.histories(np.array([0]))
    scores = model.eval().score(model.encode(histories), histories)[0]
    assert scores[:2].min() > scores[2:4].max()
    assert scores[2:4].min() > scores[4:].max()


def test_the_mlp_s_own_weights_learn_at_their_share_of_the_rate() -> None:
    shares = new(unit="neumf", mlp_rate=0.1).rate_shares()
    named = dict(new(unit="neumf").named_parameters())
    own = {name for name in named if name.startswith("_towers.1.units")}
    assert shares == dict.fromkeys(own, 0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pretrain": -1}, "pretrain: expected 0 epochs or more, got -1"),
        ({"unit": "dot"}, "unit: expected one of gmf, mlp, neumf, got 'dot'"),
        ({"embedding": 0}, "embedding"),
        ({"dropout": 1.0}, "dropout"),
        ({"l2": -1.0}, "l2"),
        ({"mlp_init": "agreement"}, "mlp_init=agreement: expected one layer"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    for config in (Config, MCConfig):
        with pytest.raises(ValueError, match=said):
            config(**wrong)


def test_levels_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="beta: expected a chance from 0 to 1, got 2"):
        MCConfig(beta=2.0)
    with pytest.raises(ValueError, match="expected 2 of them"):
        MCNCF(MCConfig(level_weights=(1.0,)), Shape(M, N, BEHAVIORS))
