"""Sparse matrices and pandas frames hold the same log as the events they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix, csc_array, csr_array, csr_matrix

from nmtr import interactions
from nmtr.data.matrices import from_matrices
from nmtr.errors import DataError, UsageError

VIEWS = np.array([[1, 0, 2], [0, 0, 1], [0, 0, 0]])
BUYS = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])


def pairs(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(frame.rows())


def test_every_stored_value_but_zero_is_one_event() -> None:
    expected = [(0, 0, "view"), (0, 2, "buy"), (0, 2, "view"), (1, 2, "buy"), (1, 2, "view")]
    for kind in (csr_matrix, csr_array, csc_array, coo_matrix):
        assert pairs(from_matrices({"view": kind(VIEWS), "buy": kind(BUYS)})) == expected


def test_a_cell_that_is_stored_twice_or_as_zero_counts_once_or_not() -> None:
    cells = ([1.0, 1.0, 0.0], ([0, 0, 1], [1, 1, 0]))
    assert pairs(from_matrices({"buy": coo_matrix(cells, (2, 2))})) == [(0, 1, "buy")]


def test_the_caller_s_matrix_is_left_as_it_is() -> None:
    matrix = csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    from_matrices({"buy": matrix})
    assert matrix.nnz == 2


def test_ids_are_given_to_rows_and_columns() -> None:
    found = from_matrices(
        {"buy": csr_array(BUYS)}, users=["u", "v", "w"], items=np.array([7, 8, 9])
    )
    assert pairs(found) == [("u", 9, "buy"), ("v", 9, "buy")]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 4), st.sampled_from(["view", "buy"])),
        min_size=1,
    )
)
def test_matrices_and_events_are_one_log(events: list[tuple[int, int, str]]) -> None:
    matrices = {}
    for name in ("view", "buy"):
        cells = [(user, item) for user, item, behavior in events if behavior == name]
        rows, columns = (np.array([each[at] for each in cells], int) for at in (0, 1))
        matrices[name] = csr_matrix((np.ones(len(cells)), (rows, columns)), shape=(6, 5))
    assert set(from_matrices(matrices).rows()) == set(events)


def test_interactions_take_them_in_order_of_the_behaviours() -> None:
    data = interactions({"buy": csr_array(BUYS), "view": csr_array(VIEWS)}, ["view", "buy"])
    assert data.behaviors == ("view", "buy")
    assert data.manifest["events_per_behavior"] == {"view": 3, "buy": 2}
    assert data.users.ids.to_list() == [0, 1], "who has no record is not in the log"
    assert set(data.items.ids) == {0, 2}


@pytest.mark.parametrize(
    ("matrices", "said"),
    [
        ({"view": csr_array(VIEWS), "buy": csr_array(BUYS[:2])}, r"'buy'.*\(3, 3\).*got \(2, 3\)"),
        ({"view": csr_array(VIEWS), "buy": BUYS}, r"'buy': expected a SciPy sparse matrix"),
        ({"buy": csr_array(-1.0 * BUYS)}, r"got -1\.0 in row 0, column 2 \(2 such\)"),
        ({"buy": csr_array(BUYS * np.nan)}, "got nan"),
        ({"buy": csr_array((3, 3))}, "at least one event"),
    ],
)
def test_what_is_no_set_of_records_is_refused(matrices: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        interactions(matrices, ["view", "buy"])


@pytest.mark.parametrize(
    ("users", "said"),
    [
        (["u", "v"], "3 distinct ids, one for each row, got 2"),
        (["u", "v", "v"], "got 3 of which 2 are distinct"),
        (["u", "v", 3], "expected ids of one type"),
    ],
)
def test_ids_are_one_for_each_row(users: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        interactions({"buy": csr_array(BUYS)}, ["buy"], users=users)


def test_ids_beside_events_that_carry_their_own_are_refused() -> None:
    with pytest.raises(UsageError, match="sparse matrices"):
        interactions({"user": [1], "item": [2], "event": ["buy"]}, ["buy"], users=[1])


FRAME = pd.DataFrame(
    {
        "user_id": ["a", "b", "a"],
        "item_id": [1, 2, 2],
        "behavior": ["buy", "buy", "view"],
        "ts": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
    }
)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.astype({"user_id": object, "behavior": "category"}),
        FRAME.astype({"item_id": "Int64"}),
        FRAME.assign(ts=FRAME.ts.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        FRAME.assign(ts=FRAME.ts.dt.strftime("%Y-%m-%dT%H:%M:%S")),
        FRAME.set_index("item_id").reset_index(),
    ],
    ids=["strings", "objects", "nullable", "zone", "iso", "index"],
)
def test_a_pandas_frame_is_the_log_that_polars_has(frame: pd.DataFrame) -> None:
    columns = {name: FRAME[name].to_list() for name in FRAME.columns}
    same = interactions(pl.DataFrame(columns), ["view", "buy"])
    assert interactions(frame, ["view", "buy"]).fingerprint() == same.fingerprint()


def test_what_pandas_calls_missing_is_missing() -> None:
    with pytest.raises(DataError, match="row 1: missing user"):
        interactions(FRAME.assign(user_id=["a", None, "a"]), ["view", "buy"])
    with pytest.raises(DataError, match="row 1: missing item"):
        interactions(FRAME.assign(item_id=pd.array([1, None, 2], dtype="Int64")), ["view", "buy"])


def test_a_pandas_frame_that_is_no_log_is_refused() -> None:
    with pytest.raises(DataError, match="distinct names"):
        interactions(pd.concat([FRAME, FRAME], axis=1), ["view", "buy"])
    with pytest.raises(DataError, match="type String; found value of type Int64"):
        interactions(FRAME.assign(user_id=["a", 3, "a"]), ["view", "buy"])
