"""Levels of preference: a pair's is its highest behaviour; negatives come from below it."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chisquare

from nmtr.data.records import CSR, Records
from nmtr.models.kernels.levels import has, lower
from nmtr.models.levels import LevelPairs, Levels

N = 60
LOW, MIDDLE, TOP = 0, 1, 2
# User 0 has all levels, user 1 only the highest, user 2 every item there is, user 3 nothing.
GLANCED = [(0, item) for item in range(10)] + [(2, item) for item in range(N)]
HELD = [(0, item) for item in range(4)] + [(2, item) for item in range(5)]
KEPT = [(0, 0), (0, 1), (1, 0), (1, 59), (2, 0)]


def records_of(*sets: list[tuple[int, int]], items: int = N) -> Records:
    found = []
    for each in sets:
        pairs = np.array(each, np.int64).reshape(-1, 2)
        found.append(CSR.from_pairs(pairs[:, 0], pairs[:, 1], 4, items))
    return Records(tuple(f"behaviour {r}" for r in range(len(found))), tuple(found))


RECORDS = records_of(GLANCED, HELD, KEPT)


def pairs_of(beta: float = 0.2, weights: tuple[float, ...] = ()) -> LevelPairs:
    return LevelPairs.from_records(RECORDS, Levels.of(weights, beta, RECORDS.behaviors))


@numba.njit()  # the kernel as its callers have it: inlined in compiled code
def many(
    times: int, user: int, level: int, indptr: npt.NDArray[np.int64], items: npt.NDArray[np.int32],
    seen: npt.NDArray[np.int32], odds: npt.NDArray[np.float64], beta: float, n_items: int,
    state: np.uint64,
) -> npt.NDArray[np.int64]:  # fmt: skip
    found = np.empty(times, np.int64)
    for n in range(times):
        found[n], state = lower(user, level, indptr, items, seen, odds, beta, n_items, state)
    return found


def draws(pairs: LevelPairs, user: int, level: int, times: int = 20_000) -> npt.NDArray[np.int64]:
    arrays = (pairs.indptr, pairs.items, pairs.seen, pairs.odds, pairs.beta, pairs.n_items)
    return many(times, user, level, *arrays, np.uint64(5))


def test_a_pair_s_level_is_its_highest_behaviour() -> None:
    pairs = pairs_of()
    of = [
        pairs.items[pairs.indptr[row] : pairs.indptr[row + 1]].tolist()
        for row in range(3 * pairs.n_users)
    ]
    assert of[:3] == [[4, 5, 6, 7, 8, 9], [2, 3], [0, 1]]
    assert of[3:6] == [[], [], [0, 59]]
    assert of[6:9] == [list(range(5, N)), [1, 2, 3, 4], [0]]
    assert of[9:] == [[], [], []]
    assert pairs.seen[:10].tolist() == list(range(10))


def test_levels_below_weigh_a_quarter_and_a_half_of_their_pairs() -> None:
    """The authors' rule for three behaviours: |lowest| / 4 to |middle| / 2."""
    pairs = pairs_of()
    assert pairs.odds.tolist() == [61 / 4, 6 / 2, 5]
    assert pairs.keep.tolist() == [0.25, 0.5, 1]


def test_weights_count_by_their_share() -> None:
    one, other = pairs_of(weights=(1.0, 2.0, 4.0)), pairs_of()
    assert one.keep.tolist() == other.keep.tolist()
    assert (one.odds / one.odds.sum()).tolist() == (other.odds / other.odds.sum()).tolist()


def test_negatives_of_the_highest_level_come_from_each_below_as_often_as_its_weight_says() -> None:
    found = draws(pairs_of(beta=0.2), 0, TOP)
    counts = np.bincount(found, minlength=N)
    assert not counts[:2].any(), "none from the level itself"
    low, middle = 61 / 4 / (61 / 4 + 3), 3 / (61 / 4 + 3)
    expected = [0.8 * middle / 2] * 2 + [0.8 * low / 6] * 6 + [0.2 / 50] * 50
    assert chisquare(counts[2:], np.array(expected) * len(found)).pvalue > 1e-3


def test_negatives_of_a_middle_level_never_come_from_one_above() -> None:
    counts = np.bincount(draws(pairs_of(beta=0.5), 0, MIDDLE), minlength=N)
    assert not counts[:4].any()
    expected = [0.5 / 6] * 6 + [0.5 / 50] * 50
    assert chisquare(counts[4:], np.array(expected) * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize(("user", "level"), [(0, LOW), (1, TOP), (3, LOW)])
def test_who_has_nothing_below_gets_an_unobserved_item(user: int, level: int) -> None:
    pairs = pairs_of()
    mine = RECORDS.seen().row(user)
    counts = np.delete(np.bincount(draws(pairs, user, level), minlength=N), mine)
    assert counts.sum() == 20_000
    assert chisquare(counts).pvalue > 1e-3


def test_who_has_every_item_gets_none_unobserved() -> None:
    pairs = pairs_of(beta=0.5)
    found = draws(pairs, 2, TOP, 400)
    assert set(found.tolist()) <= {-1, *range(1, N)}
    assert abs((found == -1).mean() - 0.5) < 0.1
    assert (draws(pairs, 2, LOW, 10) == -1).all()


def test_beta_at_its_ends() -> None:
    assert (draws(pairs_of(beta=1.0), 0, TOP) >= 10).all()
    assert (draws(pairs_of(beta=0.0), 0, TOP) < 10).all()


def test_a_level_of_weight_0_is_never_drawn() -> None:
    found = draws(pairs_of(beta=0.0, weights=(0.0, 1.0, 1.0)), 0, TOP)
    assert set(found.tolist()) == {2, 3}


@pytest.mark.parametrize("length", [0, 1, 2, 31, 32, 33, 64, 65, 1000])
def test_an_item_is_found_among_a_user_s_where_it_is_and_nowhere_else(length: int) -> None:
    owned = np.sort(np.random.default_rng(length).permutation(3000)[:length]).astype(np.int32)
    around = np.concatenate([[7], owned, [7]]).astype(np.int32)
    found = [item for item in range(-1, 3001) if has(around, 1, length + 1, item)]
    assert found == owned.tolist()


@pytest.mark.parametrize(
    ("weights", "beta", "said"),
    [
        ((1.0, 1.0), 0.2, "expected 3 of them, one for each of .* got 2"),
        ((-1.0, 1.0, 1.0), 0.2, "level_weights: expected non-negative"),
        ((0.0, 0.0, 0.0), 0.2, "level_weights: .* one is positive"),
        ((float("nan"), 1.0, 1.0), 0.2, "level_weights"),
        ((), 1.5, "beta: expected a chance from 0 to 1, got 1.5"),
        ((), float("nan"), "beta"),
    ],
)
def test_weights_and_chances_that_cannot_be_are_refused(
    weights: tuple[float, ...], beta: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        pairs_of(beta, weights)
