"""The walk against the chain written out as dense matrices in double precision, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.errors import UsageError
from nmtr.models import make, walk
from nmtr.models.base import Shape
from nmtr.models.walk import Walk

M, N = 25, 14
NAMES = ("look", "hold", "keep")
Floats = npt.NDArray[np.float64]


def marks(share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Records at random; user 7 has none, nobody has item 5."""
    found = np.random.default_rng(seed).random((M, N)) < share
    found[7], found[:, 5] = False, False
    return found


MARKS = [marks(share, seed) for seed, share in enumerate((0.4, 0.25, 0.15))]
MARKS[1][8] = MARKS[2][8] = MARKS[2][9] = False  # user 8 has the lowest behaviour alone
MARKS[2][:, 3] = False


def csr(cells: npt.NDArray[np.bool_]) -> CSR:
    users, items = np.nonzero(cells)
    return CSR.from_pairs(users, items, *cells.shape)


RECORDS = Records(NAMES, tuple(csr(each) for each in MARKS))
EVERYONE = RECORDS.histories(np.arange(M))


def learned(records: Records = RECORDS, **options: Any) -> Walk:
    model = make("walk", options, Shape(records.n_users, records.n_items, records.behaviors))
    assert isinstance(model, Walk)
    model.learn(records)
    return model


def scores(model: Walk, histories: Histories = EVERYONE) -> Tensor:
    return model.score(model.encode(histories), histories)


def chain(cells: npt.NDArray[np.bool_]) -> Floats:
    """T (N, N): from an item to one of its users, and on to one of their items."""
    x = cells.astype(float)
    found = np.zeros((x.shape[1],) * 2)
    for i in range(len(found)):
        owners = np.flatnonzero(x[:, i])
        if not len(owners):
            found[i, i] = 1
        for user in owners:
            found[i] += x[user] / x[user].sum() / len(owners)
    return found


def reference(weights: tuple[float, ...], restart: float, steps: int, penalty: float) -> Floats:
    """(M, N) the scores, user by user."""
    found = np.zeros((M, N))
    for user in range(M):
        arrived = np.zeros(N)
        for cells, weight in zip(MARKS, weights, strict=True):
            own = cells[user].astype(float)
            start = arrived + weight * own / max(own.sum(), 1)
            arrived = start
            for _ in range(steps):
                arrived = restart * start + (1 - restart) * arrived @ chain(cells)
        found[user] = arrived / (1 + MARKS[-1].sum(0)) ** penalty
        present = sum(w for w, cells in zip(weights, MARKS, strict=True) if cells[user].any())
        found[user] /= present or 1
    return found


@pytest.mark.parametrize(
    ("weights", "restart", "steps", "penalty"),
    [
        ((0.25, 0.5, 1.0), 0.5, 3, 0.0),
        ((0.3, 2.0, 1.0), 0.1, 1, 0.7),
        ((0.0, 0.4, 1.0), 0.0, 6, 1.0),
        ((1.0, 0.0, 0.0), 0.9, 2, 0.0),
    ],
)
def test_with_all_cells_kept_the_scores_are_the_walk_s(
    weights: tuple[float, ...], restart: float, steps: int, penalty: float
) -> None:
    model = learned(weights=weights, restart=restart, steps=steps, penalty=penalty)
    expected = reference(weights, restart, steps, penalty)
    known = np.any([c.any(1) & (w > 0) for c, w in zip(MARKS, weights, strict=True)], axis=0)
    assert known.sum() > M - 5
    assert np.allclose(scores(model).double().numpy()[known], expected[known], atol=1e-6)


def test_a_walk_ends_somewhere() -> None:
    found = scores(learned(steps=4))
    assert torch.allclose(found.sum(1), torch.ones(M), atol=1e-5)
    assert (found >= 0).all()


def test_steps_and_a_restart_by_hand() -> None:
    """User 0 keeps items 0 and 1, user 1 items 1 and 2: from 0 a step stays or goes to 1."""
    kept = Records(("keep",), (CSR.from_pairs([0, 0, 1, 1], [0, 1, 1, 2], 2, 3),))
    one = CSR.from_pairs([0], [0], 1, 3)
    visitor = Histories(np.array([-1]), (one,))
    assert scores(learned(kept, steps=1, restart=0), visitor)[0].tolist() == [0.5, 0.5, 0]
    assert scores(learned(kept, steps=2, restart=0), visitor)[0].tolist() == [0.375, 0.5, 0.125]
    half = scores(learned(kept, steps=1, restart=0.5), visitor)[0]
    assert half.tolist() == [0.75, 0.25, 0]
    less = scores(learned(kept, steps=1, restart=0.5, penalty=1), visitor)[0]
    assert less.tolist() == pytest.approx([0.75 / 2, 0.25 / 3, 0])


def test_the_behaviour_below_is_a_prior() -> None:
    """Of one who only looked, the walk goes on from where looking led."""
    looked = CSR.from_pairs([0, 0], [0, 1], 3, 3)
    kept = CSR.from_pairs([1, 1], [1, 2], 3, 3)
    records = Records(("look", "keep"), (looked, kept))
    model = learned(records, steps=1, restart=0, weights=(1, 1))
    found = scores(model, records.histories(np.array([0])))[0]
    # Looking leads to 0 and 1 alike; nobody kept 0, where the walk stays; from 1 on to 1 or 2.
    assert found.tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_blocks_of_items_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learned()
    monkeypatch.setattr(walk, "BLOCK_CELLS", 3 * (M + N) * 4)  # four items at once, then two
    parts = learned()
    assert torch.allclose(scores(parts), scores(whole), atol=1e-7)


def test_of_each_item_the_best_cells_are_kept() -> None:
    whole, few = learned(), learned(k=4)
    assert few.cells.shape == (3, N, 4)
    best = whole.chances.sort(dim=2, descending=True).values[:, :, :4]
    assert torch.allclose(few.chances, best)
    user = RECORDS.histories(np.array([2]))
    assert (scores(few, user) <= scores(whole, user) + 1e-6).all()


def test_users_are_met_by_their_histories_and_without_one_as_the_average() -> None:
    model = learned()
    strangers = replace(EVERYONE, users=np.full(M, -1))
    assert torch.equal(scores(model), scores(model, strangers))
    others = np.setdiff1d(np.arange(M), [7])
    mean = scores(model, RECORDS.histories(others)).mean(0)
    assert torch.allclose(scores(model)[7], mean, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"restart": 1}, "restart: expected a chance from 0 to below 1, got 1"),
        ({"steps": 0}, "steps and k must be positive, got 0 and 500"),
        ({"k": 0}, "steps and k must be positive, got 3 and 0"),
        ({"penalty": -1}, "penalty: expected 0 to 4, got -1"),
        ({"weights": "1,1"}, "expected 3 of them, one for each of look, hold, keep, got 2"),
        ({"weights": (0, 0, 0)}, "positive sum"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_came(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        learned(**options)
