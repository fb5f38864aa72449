"""CSR sets behave as Python sets of pairs do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.data.records import CSR, Histories, LabelledPairs, Records, distinct, union

ROWS, COLUMNS = 5, 7
Pair = tuple[int, int]
pair = st.tuples(st.integers(0, ROWS - 1), st.integers(0, COLUMNS - 1))
pairs = st.lists(pair, max_size=40)
quick = settings(max_examples=60, deadline=None)


def columns_of(given_pairs: list[Pair]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    both = np.array(given_pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def csr(given_pairs: list[Pair]) -> CSR:
    return CSR.from_pairs(*columns_of(given_pairs), ROWS, COLUMNS)


def as_set(found: CSR) -> set[Pair]:
    listed = list(zip(found.row_of_each().tolist(), found.indices.tolist(), strict=True))
    assert listed == sorted(set(listed)), "rows ascend, and columns within them, without repeats"
    assert found.indptr.dtype == np.int64
    assert found.indices.dtype == np.int32
    return set(listed)


@quick
@given(pairs)
def test_repeated_pairs_count_once(some: list[Pair]) -> None:
    found = csr(some)
    assert as_set(found) == set(some)
    assert (found.n_rows, found.n_columns, found.nnz) == (ROWS, COLUMNS, len(set(some)))
    for row in range(ROWS):
        expected = sorted(column for at, column in set(some) if at == row)
        assert found.row(row).tolist() == expected
        assert found.lengths()[row] == len(expected)


@quick
@given(pairs)
def test_keys_lead_back_to_the_same_set(some: list[Pair]) -> None:
    found = csr(some)
    assert as_set(CSR.from_keys(found.keys(), ROWS, COLUMNS)) == set(some)


@quick
@given(pairs, pairs)
def test_contains_is_membership(some: list[Pair], asked: list[Pair]) -> None:
    found = csr(some).contains(*columns_of(asked))
    assert found.tolist() == [each in set(some) for each in asked]


@quick
@given(pairs, pairs)
def test_without_is_set_difference(some: list[Pair], gone: list[Pair]) -> None:
    assert as_set(csr(some).without(*columns_of(gone))) == set(some) - set(gone)


@quick
@given(st.lists(pairs, min_size=1, max_size=4))
def test_union_is_set_union(several: list[list[Pair]]) -> None:
    expected = {each for some in several for each in some}
    assert as_set(union([csr(some) for some in several])) == expected


@quick
@given(pairs, st.lists(st.integers(-1, ROWS - 1), max_size=8))
def test_take_keeps_the_order_asked_for_and_leaves_strangers_empty(
    some: list[Pair], rows: list[int]
) -> None:
    found = csr(some).take(np.array(rows, np.int64))
    expected = {(at, column) for at, row in enumerate(rows) for r, column in some if r == row}
    assert as_set(found) == expected
    assert found.n_rows == len(rows)


@quick
@given(pairs)
def test_column_counts_count_users_not_events(some: list[Pair]) -> None:
    expected = [len({r for r, column in some if column == at}) for at in range(COLUMNS)]
    assert csr(some).column_counts().tolist() == expected


@quick
@given(st.lists(st.integers(-50, 50), max_size=30))
def test_distinct_is_what_numpy_calls_unique(keys: list[int]) -> None:
    assert distinct(np.array(keys, np.int64)).tolist() == sorted(set(keys))


@pytest.mark.parametrize(("row", "column"), [(1, -1), (0, COLUMNS), (-1, 3)])
def test_an_unknown_item_is_no_neighbour_s_item(row: int, column: int) -> None:
    # As keys, (1, -1) would be (0, 6), and (0, 7) would be (1, 0).
    everything = csr([(r, c) for r in range(ROWS) for c in range(COLUMNS)])
    assert not everything.contains(np.array([row]), np.array([column])).any()
    assert everything.without(np.array([row]), np.array([column])).nnz == ROWS * COLUMNS


@quick
@given(st.tuples(pairs, pairs, pairs))
def test_the_bits_of_a_pair_are_its_behaviours(given_sets: tuple[list[Pair], ...]) -> None:
    records = Records(("a", "b", "c"), tuple(csr(some) for some in given_sets))
    labelled = LabelledPairs.from_records(records)
    listed = zip(labelled.pairs.row_of_each(), labelled.pairs.indices, strict=True)
    found = {(int(u), int(i)): int(b) for (u, i), b in zip(listed, labelled.bits, strict=True)}
    everything = {each for some in given_sets for each in some}
    assert found == {
        each: sum(1 << r for r, some in enumerate(given_sets) if each in some)
        for each in everything
    }


def test_32_behaviours_fit_the_bits_and_33_are_refused() -> None:
    names = tuple(f"b{r}" for r in range(33))
    one = csr([(0, 0)])
    labelled = LabelledPairs.from_records(Records(names[:32], (one,) * 32))
    assert labelled.bits.tolist() == [2**32 - 1]
    with pytest.raises(ValueError, match="at most 32 behaviours, got 33"):
        LabelledPairs.from_records(Records(names, (one,) * 33))


@quick
@given(pairs, st.lists(st.integers(-1, ROWS - 1), min_size=1, max_size=6), st.integers(0, 6))
def test_a_slice_of_histories_is_the_histories_of_the_slice(
    some: list[Pair], users: list[int], start: int
) -> None:
    records = Records(("a", "b"), (csr(some), csr(some[::2])))
    part = records.histories(np.array(users)).slice(start, start + 2)
    expected = records.histories(np.array(users[start : start + 2], np.int64))
    assert isinstance(part, Histories)
    assert len(part) == len(expected)
    assert part.users.tolist() == expected.users.tolist()
    for mine, theirs in zip(part.items, expected.items, strict=True):
        assert as_set(mine) == as_set(theirs)


def test_a_stranger_has_no_items() -> None:
    records = Records(("a",), (csr([(0, 1), (4, 2)]),))
    histories = records.histories(np.array([-1, 4, 0]))
    assert [histories.items[0].row(at).tolist() for at in range(3)] == [[], [2], [1]]
