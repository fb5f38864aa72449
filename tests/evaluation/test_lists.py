"""Coverage, popularity and diversity of lists, by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from nmtr.data.records import CSR
from nmtr.evaluation import lists

N = 10
COUNTS = np.array([50, 40, 30, 20, 10, 8, 4, 2, 1, 0])


def rows(*found: list[int]) -> CSR:
    owners = np.repeat(np.arange(len(found)), [len(each) for each in found])
    return CSR.from_pairs(owners, [item for each in found for item in each], len(found), N)


def test_coverage_counts_items_that_stand_in_some_list() -> None:
    assert lists.coverage(rows([0, 1], [1, 2])) == pytest.approx(0.3)
    assert lists.coverage(rows([], [])) == 0


def test_gini_is_0_where_all_are_shown_alike_and_near_1_where_one_is() -> None:
    assert lists.gini(rows(list(range(N)), list(range(N)))) == pytest.approx(0)
    assert lists.gini(rows([3], [3], [3])) == pytest.approx(1 - 1 / N)
    # Two items of ten shown 1 and 3 times: the mean absolute difference over twice the mean.
    counts = np.array([0] * 8 + [1, 3])
    by_definition = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert lists.gini(rows([8, 9], [9], [9])) == pytest.approx(by_definition)


def test_personalisation_is_the_share_that_another_does_not_see() -> None:
    assert lists.personalization(rows([0, 1], [0, 1])) == pytest.approx(0)
    assert lists.personalization(rows([0, 1], [2, 3])) == pytest.approx(1)
    assert lists.personalization(rows([0, 1], [0, 2])) == pytest.approx(0.5)
    assert np.isnan(lists.personalization(rows([0, 1])))


def test_popularity_novelty_and_head_by_hand() -> None:
    found = rows([0, 3], [9], [])
    assert lists.popularity(found, COUNTS, 100) == pytest.approx([0.35, 0, np.nan], nan_ok=True)
    novelty = lists.novelty(found, COUNTS, 100)
    assert novelty[:2] == pytest.approx([(1 - np.log2(0.2)) / 2, -np.log2(0.005)])
    assert lists.head_share(found, COUNTS)[:2] == pytest.approx([0.5, 0])


def test_exposure_is_by_tenth_and_sums_to_one() -> None:
    found = lists.exposure(rows([0, 1], [0, 9]), COUNTS)
    assert found == pytest.approx([0.5, 0.25, 0, 0, 0, 0, 0, 0, 0, 0.25])
    assert lists.exposure(rows([]), COUNTS).sum() == 0


def test_tenths_are_of_equal_size() -> None:
    counts = np.random.default_rng(0).integers(0, 5, 1000)
    found = lists.tenths(counts)
    assert (np.bincount(found) == 100).all()
    assert all(counts[found == at].min() >= counts[found == at + 1].max() for at in range(9))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_diversity_is_one_less_the_mean_cosine_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen = rng.random((12, N)) < 0.4
    chosen = rng.random((5, N)) < 0.4
    found = lists.diversity(_csr(chosen), _csr(seen))
    cosines = cosine_similarity(seen.T.astype(float))
    for user, each in enumerate(chosen):
        items = np.flatnonzero(each)
        if len(items) < 2:
            assert np.isnan(found[user])
            continue
        upper = cosines[np.ix_(items, items)][np.triu_indices(len(items), 1)]
        assert found[user] == pytest.approx(1 - upper.mean())


def _csr(dense: npt.NDArray[np.bool_]) -> CSR:
    users, items = np.nonzero(dense)
    return CSR.from_pairs(users, items, *dense.shape)
