"""BPR and Multi-Channel BPR: the sweep's steps, whom it visits, and what a seed decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Records
from nmtr.models import bpr, make
from nmtr.models.base import Model, Shape
from nmtr.models.kernels.bpr import bpr_step

M, N = 30, 40
BEHAVIORS = ("glance", "keep")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(*, seed: int = 0) -> Records:
    """Users of two kinds, each with half of the items to like; they keep some of what they saw."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(M), 12)
    items = users % 2 * (N // 2) + np.tile(np.arange(12), M) + rng.integers(0, 8, len(users))
    kept = rng.random(len(users)) < 0.5
    return Records(
        BEHAVIORS,
        (
            CSR.from_pairs(users, items, M, N),
            CSR.from_pairs(users[kept], items[kept], M, N),
        ),
    )


def new(name: str, given: Records, **options: Any) -> Model:
    torch.manual_seed(0)
    model = make(name, options, Shape(given.n_users, given.n_items, given.behaviors))
    model.learn(given)
    return model


def swept(
    name: str, given: Records, *seeds: int, rate: float = 0.1, negatives: int = 1, **options: Any
) -> tuple[Model, float]:
    model = new(name, given, **options)
    sweep = model.sweep(given.only(model.learns), rate=rate, negatives=negatives)
    return model, [sweep(seed) for seed in seeds][-1]


def state(model: Model) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


def equal(one: Model, other: Model) -> bool:
    pairs = zip(state(one).values(), state(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_step_goes_down_the_gradient_of_the_triple_s_loss() -> None:
    rng = np.random.default_rng(1)
    rate, l2 = np.float32(0.3), np.float32(0.07)
    for _ in range(5):
        arrays = [rng.normal(0, 1, size).astype(np.float32) for size in (5, (3, 5), 3)]
        p, q, bias = leaves = [
            torch.from_numpy(each.astype(np.float64)).requires_grad_() for each in arrays
        ]
        loss = -torch.log(torch.sigmoid(p @ (q[2] - q[0]) + bias[2] - bias[0]))
        decay = p.square().sum() + q[[2, 0]].square().sum() + bias[[2, 0]].square().sum()
        (loss + float(l2) / 2 * decay).backward()  # type: ignore[no-untyped-call]
        found = bpr_step(arrays[0], arrays[1], arrays[2], 2, 0, rate, l2)
        assert found == pytest.approx(loss.item(), abs=1e-5)
        for moved, leaf in zip(arrays, leaves, strict=True):
            assert leaf.grad is not None
            wanted = leaf.detach() - float(rate) * leaf.grad
            assert np.allclose(moved, wanted.numpy(), atol=1e-6)
        assert (arrays[1][1] == leaves[1][1].detach().numpy().astype(np.float32)).all()


@pytest.mark.parametrize("negatives", [1, 4])
def test_an_epoch_meets_each_target_pair_once_for_each_negative(negatives: int) -> None:
    """Of vectors of nothing and a tiny rate, each step moves two biases by half the rate."""
    given = records()
    model = new("bpr", given, l2=0.0)
    assert isinstance(model, bpr.BPR)
    with torch.no_grad():
        model.user.zero_()
        model.item.zero_()
    model.sweep(given.only(BEHAVIORS[1:]), rate=2e-5, negatives=negatives)(3)
    moves = model.bias.detach().numpy() / 1e-5
    assert abs(moves.sum()) < 0.1, "as many negatives as positives"
    positives = given.target.column_counts() * negatives
    drawn = positives - moves
    assert np.allclose(drawn, drawn.round(), atol=0.1)
    assert drawn.min() > -0.1
    assert drawn.sum() == pytest.approx(positives.sum(), abs=0.5)


def test_an_item_that_everyone_has_is_nobody_s_negative() -> None:
    given = records()
    everyone = np.concatenate([given.target.row_of_each(), np.arange(M)])
    items = np.concatenate([given.target.indices, np.zeros(M, np.int64)])
    target = CSR.from_pairs(everyone, items, M, N)
    model = new("bpr", Records(("keep",), (target,)), l2=0.0)
    assert isinstance(model, bpr.BPR)
    with torch.no_grad():
        model.user.zero_()
        model.item.zero_()
    model.sweep(Records(("keep",), (target,)), rate=2e-5, negatives=3)(0)
    assert model.bias[0].item() / 1e-5 == pytest.approx(3 * M, abs=0.2)


@pytest.mark.parametrize("name", ["bpr", "mc-bpr"])
def test_a_seed_decides_an_epoch_on_one_thread(name: str) -> None:
    given = records()
    assert equal(swept(name, given, 1, 2)[0], swept(name, given, 1, 2)[0])
    assert not equal(swept(name, given, 1, 2)[0], swept(name, given, 1, 3)[0])


@pytest.mark.parametrize("name", ["bpr", "mc-bpr"])
def test_nothing_but_the_parameters_carries_over_from_epoch_to_epoch(name: str) -> None:
    given = records()
    straight, loss = swept(name, given, 1, 2)
    first = swept(name, given, 1)[0]
    again = new(name, given)
    again.load_state_dict(first.state_dict())
    assert again.sweep(given.only(again.learns), rate=0.1, negatives=1)(2) == loss
    assert equal(straight, again)


def test_bpr_does_not_look_at_auxiliary_records() -> None:
    given = records()
    nothing = CSR(np.zeros(M + 1, np.int64), np.zeros(0, np.int32), N)
    alone = Records(BEHAVIORS, (nothing, given.target))
    assert equal(swept("bpr", given, 1, 2)[0], swept("bpr", alone, 1, 2)[0])
    assert not equal(swept("mc-bpr", given, 1, 2)[0], swept("mc-bpr", alone, 1, 2)[0])


def test_on_the_target_alone_multi_channel_bpr_is_bpr() -> None:
    given = records().only(BEHAVIORS[1:])
    assert equal(swept("bpr", given, 1, 2)[0], swept("mc-bpr", given, 1, 2)[0])


def test_multi_channel_bpr_ranks_levels_in_their_order() -> None:
    given = records()
    seeds = range(60)
    model, _ = swept("mc-bpr", given, *seeds, beta=0.5)
    histories = given.histories(np.arange(M))
    scores = model.score(model.encode(histories), histories).detach().numpy()
    kept, seen = (np.zeros((M, N), np.bool_) for _ in range(2))
    kept[given.target.row_of_each(), given.target.indices] = True
    seen[given.sets[0].row_of_each(), given.sets[0].indices] = True
    means = [scores[which].mean() for which in (kept, seen & ~kept, ~seen)]
    assert means == sorted(means, reverse=True)


def test_a_user_with_every_item_learns_nothing_and_harms_nobody() -> None:
    users = np.concatenate([np.zeros(N, np.int64), [1]])
    items = np.concatenate([np.arange(N), [3]])
    given = Records(("keep",), (CSR.from_pairs(users, items, M, N),))
    before = new("bpr", given).state_dict()["user"].clone()
    model, loss = swept("bpr", given, 1)
    after = model.state_dict()["user"]
    assert np.isfinite(loss)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    assert torch.equal(after[2:], before[2:]), "who has no record is not met"


def test_who_has_no_target_record_is_scored_as_a_stranger() -> None:
    given = records()
    gone = given.target.without(np.zeros(N, np.int64), np.arange(N))
    given = Records(BEHAVIORS, (given.sets[0], gone))
    model, _ = swept("bpr", given, 1)
    found = model.encode(given.histories(np.array([0, -1, 1])))
    assert torch.equal(found[0], found[1])
    known = model.state_dict()["user"][1:]
    assert torch.allclose(found[1], known.mean(0), atol=1e-6)
    assert torch.equal(found[2], known[0])


def test_threads_share_the_items_and_learn_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    given = records()
    alone = swept("bpr", given, *range(40))[1]
    monkeypatch.setattr(bpr, "LEAST", 10)
    torch.set_num_threads(2)
    together = swept("bpr", given, *range(40))[1]
    assert together == pytest.approx(alone, rel=0.25)


@pytest.mark.parametrize(
    "wrong",
    [{"embedding": 0}, {"l2": -1.0}, {"l2": float("nan")}, {"init_std": 0.0}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bpr.Config(**wrong)
