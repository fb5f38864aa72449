"""Popularity and replay on a log of four users, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmtr.data.records import CSR, Records
from nmtr.models import make
from nmtr.models.base import Model, Shape

NAMES = ("look", "hold", "keep")
LOOKED = [(0, 0), (0, 1), (1, 0), (2, 0), (3, 3)]
HELD = [(0, 1), (1, 2), (2, 2), (3, 3)]
KEPT = [(0, 2), (1, 2), (3, 2), (2, 0), (1, 1), (0, 0)]


def csr(pairs: list[tuple[int, int]]) -> CSR:
    both = np.array(pairs)
    return CSR.from_pairs(both[:, 0], both[:, 1], 4, 5)


RECORDS = Records(NAMES, (csr(LOOKED), csr(HELD), csr(KEPT)))


def taught(name: str) -> Model:
    model = make(name, {}, Shape(4, 5, NAMES))
    model.learn(RECORDS)
    return model


def scores(name: str, user: int) -> torch.Tensor:
    model, histories = taught(name), RECORDS.histories(np.array([user]))
    return model.score_behaviors(model.encode(histories), histories)[0]


@pytest.mark.parametrize("user", [-1, 0, 3])
def test_popularity_counts_users_per_behaviour_and_is_one_for_all(user: int) -> None:
    assert scores("popularity", user).tolist() == [
        [3, 1, 0, 1, 0],
        [0, 1, 2, 1, 0],
        [2, 1, 3, 0, 0],
    ]


def test_replay_puts_what_the_user_did_one_step_lower_first() -> None:
    # User 3 held item 3, which nobody kept; the others follow by how many kept them.
    assert scores("replay", 3)[2].argsort(descending=True, stable=True).tolist() == [3, 2, 0, 1, 4]
    # User 0 looked at 0 and 1, and of these nobody held 0.
    assert scores("replay", 0)[1].argsort(descending=True, stable=True).tolist() == [1, 0, 2, 3, 4]


def test_replay_orders_each_group_by_popularity() -> None:
    own = scores("replay", 0)
    assert own[2, 1] > own[2, [0, 2, 3, 4]].max()
    assert own[2, [0, 2, 3, 4]].tolist() == [2, 3, 0, 0]
    assert own[0].tolist() == scores("popularity", 0)[0].tolist()


def test_a_stranger_s_replay_is_popularity() -> None:
    assert torch.equal(scores("replay", -1), scores("popularity", -1))


def test_learning_again_replaces_what_was_learned() -> None:
    model = taught("popularity")
    model.learn(RECORDS)
    assert torch.equal(model.state_dict()["counts"], taught("popularity").state_dict()["counts"])
