"""ease and itemknn against answers worked out by hand or in another way."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from nmtr.data.records import CSR, Records
from nmtr.data.weighted import weighted_sum
from nmtr.errors import UsageError
from nmtr.models import ease, itemknn, make
from nmtr.models.base import Model, Shape

M, N = 40, 9
NAMES = ("hold", "keep")


def random_records() -> Records:
    rng = np.random.default_rng(5)
    sets = []
    for share in (0.4, 0.2):
        users, items = np.nonzero(rng.random((M, N)) < share)
        sets.append(CSR.from_pairs(users, items, M, N))
    return Records(NAMES, tuple(sets))


RECORDS = random_records()
WEIGHTS = (0.5, 1.0)
X = weighted_sum(RECORDS.sets, WEIGHTS).toarray().astype(np.float64)


def taught(name: str, records: Records, **options: Any) -> Model:
    model = make(name, options, Shape(records.n_users, records.n_items, records.behaviors))
    model.learn(records)
    return model


def scores(model: Model, records: Records) -> torch.Tensor:
    histories = records.histories(np.arange(records.n_users))
    return model.score(model.encode(histories), histories)


def ridge_regressions(x: np.ndarray[Any, Any], ridge: float) -> np.ndarray[Any, Any]:
    """Each item from the others only, one regression at a time: the diagonal is zero by design."""
    found = np.zeros((x.shape[1], x.shape[1]))
    for item in range(x.shape[1]):
        others = np.delete(np.arange(x.shape[1]), item)
        left = x[:, others].T @ x[:, others] + ridge * np.eye(len(others))
        found[others, item] = np.linalg.solve(left, x[:, others].T @ x[:, item])
    return found


@pytest.mark.parametrize("ridge", [0.5, 20.0])
@pytest.mark.parametrize("block", [4, 1024])
def test_ease_is_the_ridge_regression_of_each_item_on_the_others(
    ridge: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    model = taught("ease", RECORDS, ridge=ridge, weights=WEIGHTS)
    between = model.state_dict()["between"].numpy()
    assert (between.diagonal() == 0).all()
    expected = ridge_regressions(X, ridge)
    assert np.allclose(between, expected, atol=1e-5)
    assert np.allclose(scores(model, RECORDS), X @ expected, atol=1e-4)


def test_ease_refuses_more_items_than_fit_and_says_what_they_would_take() -> None:
    said = "at most 40,000 items, got 50,000: the matrix between items would take 10.0 GB"
    with pytest.raises(UsageError, match=re.escape(said)):
        make("ease", {}, Shape(1, 50_000, NAMES))


def test_ease_refuses_a_ridge_too_small_to_tell_two_items_apart() -> None:
    twins = CSR.from_pairs([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1], 3, 2)
    with pytest.raises(UsageError, match="the ridge is too small"):
        taught("ease", Records(("keep",), (twins,)), ridge=1e-12)


def three_items() -> Records:
    """Users 0 and 1 keep items 0 and 1, user 2 keeps 1 and 2, user 3 only 1."""
    pairs = CSR.from_pairs([0, 0, 1, 1, 2, 2, 3], [0, 1, 0, 1, 1, 2, 1], 4, 3)
    return Records(("keep",), (pairs,))


def test_itemknn_sums_the_cosines_to_the_user_s_items() -> None:
    # |x| is sqrt 2, 2, 1; items 0 and 1 share two users, 1 and 2 one, 0 and 2 none.
    near, far = 2 / (2 * 2**0.5), 1 / 2
    found = scores(taught("itemknn", three_items(), shrink=0), three_items())
    assert torch.allclose(found[3], torch.tensor([near, 0, far]))
    assert torch.allclose(found[0], torch.tensor([near, near, far]))
    assert torch.allclose(found[2], torch.tensor([near, far, far]))


def test_shrinkage_makes_few_common_users_count_less() -> None:
    found = scores(taught("itemknn", three_items(), shrink=1), three_items())
    assert torch.allclose(found[3], torch.tensor([2 / (2 * 2**0.5 + 1), 0, 1 / 3]))


def test_only_the_k_nearest_of_an_item_hear_of_it() -> None:
    near, far = 2 / (2 * 2**0.5), 1 / 2
    found = scores(taught("itemknn", three_items(), shrink=0, k=1), three_items())
    assert torch.allclose(found[3], torch.tensor([near, 0, 0]))
    assert torch.allclose(found[2], torch.tensor([near, far, 0])), "1 is the nearest to 2"


@pytest.mark.parametrize("cells", [N, 4_000_000])
def test_with_every_neighbour_itemknn_is_the_product_with_all_cosines(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(itemknn, "BLOCK_CELLS", cells)
    model = taught("itemknn", RECORDS, weights=WEIGHTS, shrink=0)
    cosines = cosine_similarity(X.T)
    np.fill_diagonal(cosines, 0)
    assert np.allclose(scores(model, RECORDS), X @ cosines, atol=1e-5)
