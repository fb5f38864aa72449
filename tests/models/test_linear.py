"""What ease, itemknn and ials share: several behaviours as one matrix, users met by histories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Model, Shape

M, N = 30, 12
NAMES = ("look", "hold", "keep")
LINEAR = pytest.mark.parametrize("name", ["ease", "itemknn", "ials"])


def random_records(share: float = 0.3) -> Records:
    """Every behaviour at random; user 7 has none, user 8 only the lowest."""
    rng = np.random.default_rng(3)
    sets = []
    for r in range(len(NAMES)):
        pairs = rng.random((M, N)) < share
        pairs[7], pairs[8] = False, pairs[8] if r == 0 else False
        users, items = np.nonzero(pairs)
        sets.append(CSR.from_pairs(users, items, M, N))
    return Records(NAMES, tuple(sets))


RECORDS = random_records()


def taught(name: str, records: Records = RECORDS, **options: Any) -> Model:
    torch.manual_seed(1)
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    model = make(name, options, shape)
    model.learn(records)
    return model


def scores(model: Model, histories: Histories) -> Tensor:
    return model.score(model.encode(histories), histories)


def everyone(records: Records = RECORDS) -> Histories:
    return records.histories(np.arange(records.n_users))


@LINEAR
def test_a_behaviour_of_weight_zero_is_as_good_as_absent(name: str) -> None:
    two = Records(NAMES[1:], RECORDS.sets[1:])
    with_it, without = taught(name, weights=(0.0, 0.5, 1.0)), taught(name, two, weights=(0.5, 1.0))
    assert torch.equal(scores(with_it, everyone()), scores(without, everyone(two)))


@LINEAR
def test_without_weights_the_target_counts_alone(name: str) -> None:
    one = Records(NAMES[2:], RECORDS.sets[2:])
    alone = scores(taught(name, one), everyone(one))
    assert torch.equal(scores(taught(name), everyone()), alone)
    assert torch.equal(scores(taught(name, weights=(0.0, 0.0, 1.0)), everyone()), alone)


@LINEAR
def test_a_weight_above_zero_counts_in_learning_and_in_scoring(name: str) -> None:
    several, alone = taught(name, weights=(0.5, 0.5, 1.0)), taught(name)
    assert not torch.allclose(scores(several, everyone()), scores(alone, everyone()), atol=1e-3)
    histories = RECORDS.histories(np.array([3, 8]))
    less = (histories.items[0], histories.items[1].take(np.array([-1, -1])), histories.items[2])
    found = scores(several, replace(histories, items=less))
    assert not torch.allclose(found[0], scores(several, histories)[0], atol=1e-3)
    assert torch.allclose(found[1], scores(several, histories)[1])


@LINEAR
def test_every_behaviour_gets_the_target_s_score(name: str) -> None:
    model = taught(name)
    found = model.score_behaviors(model.encode(everyone()), everyone())
    assert found.dtype == torch.float32
    assert found.shape == (M, 3, N)
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.equal(found[:, 1], found[:, 2])


@LINEAR
def test_a_stranger_with_a_history_is_scored_as_a_user_with_that_history(name: str) -> None:
    model, known = taught(name), RECORDS.histories(np.array([3, 11]))
    stranger = replace(known, users=np.array([-1, -1]))
    assert torch.equal(scores(model, stranger), scores(model, known))


@LINEAR
def test_without_a_history_one_is_scored_as_the_average_of_those_who_have_one(name: str) -> None:
    model = taught(name)
    found = scores(model, RECORDS.histories(np.array([-1, 7, 8])))  # 8 has none that counts
    others = np.setdiff1d(np.arange(M), [7, 8])
    mean = scores(model, RECORDS.histories(others)).mean(0)
    for each in found:
        assert torch.allclose(each, mean, atol=1e-5)
    assert mean.std() > 0


@LINEAR
def test_a_log_without_a_record_that_counts_scores_all_alike(name: str) -> None:
    nothing = RECORDS.sets[2].take(np.full(M, -1))
    empty = Records(NAMES, (*RECORDS.sets[:2], nothing))
    assert torch.equal(scores(taught(name, empty), everyone(empty)), torch.zeros(M, N))


@LINEAR
def test_learning_again_replaces_what_was_learned(name: str) -> None:
    once, again = taught(name), taught(name, random_records(0.5))
    torch.manual_seed(1)
    again.learn(RECORDS)
    assert torch.equal(scores(again, everyone()), scores(once, everyone()))


@pytest.mark.parametrize("name", ["ease", "itemknn"])
def test_the_order_of_the_items_does_not_matter(name: str) -> None:
    order = np.random.default_rng(0).permutation(N)
    moved = tuple(
        CSR.from_pairs(each.row_of_each(), order[each.indices], M, N) for each in RECORDS.sets
    )
    other = Records(NAMES, moved)
    found = scores(taught(name, other), everyone(other))[:, order]
    assert torch.allclose(found, scores(taught(name), everyone()), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ease", {"ridge": 0}, "ridge: expected a number above 0, got 0"),
        ("ease", {"ridge": "nan"}, "expected a number, got 'nan'"),
        ("ease", {"weights": "1,1"}, "expected 3 of them, one for each of look, hold, keep, got 2"),
        ("itemknn", {"k": 0}, "k: expected 1 neighbour or more, got 0"),
        ("itemknn", {"shrink": -1}, "shrink: expected 0 or more, got -1"),
        ("itemknn", {"weights": (0, 0, 0)}, r"positive sum.* got \(0, 0, 0\)"),
        ("ials", {"embedding": 0}, "embedding and sweeps must be positive, got 0 and 16"),
        ("ials", {"sweeps": -2}, "embedding and sweeps must be positive, got 128 and -2"),
        ("ials", {"alpha0": 0}, "expected ridge, alpha0 and init above 0, got 0.02, 0.0 and 0.1"),
        ("ials", {"nu": 1.5}, "nu: expected 0 <= nu <= 1, got 1.5"),
        ("ials", {"weights": "1,-1,1"}, r"non-negative.* got \(1.0, -1.0, 1.0\)"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_came(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        make(name, options, Shape(M, N, NAMES))
