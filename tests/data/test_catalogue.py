"""Catalogues and single ids: matched by value, refused with what came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmtr.data.catalogue import read_catalogue
from nmtr.data.vocabulary import Vocabulary, hash_ids
from nmtr.errors import DataError, UsageError
from nmtr.serving.lookup import Lookup

ITEMS = Vocabulary(pl.Series([30, 10, 20]))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_come_in_the_order_of_the_items_null_where_there_is_none(
    tmp_path: Path, suffix: str
) -> None:
    frame = pl.DataFrame({"price": [1.5, 2.0, 9.0], "SKU": [10, 30, 99], "name": ["a", "b", "z"]})
    path = tmp_path / f"items{suffix}"
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    found, known = read_catalogue(path, ITEMS)
    assert known == 2
    assert found.rows() == [(2.0, "b"), (1.5, "a"), (None, None)]
    assert found.columns == ["price", "name"]


def test_every_column_beside_the_id_is_kept_whatever_its_name(tmp_path: Path) -> None:
    """`index` was lost, as the join's own column was called so."""
    path = tmp_path / "items.parquet"
    pl.DataFrame({"index": [7, 8], "item_id": [20, 10], "row": ["a", "b"]}).write_parquet(path)
    found, known = read_catalogue(path, ITEMS)
    assert known == 2
    assert found.columns == ["index", "row"]
    assert found.rows() == [(None, None), (8, "b"), (7, "a")]


def test_columns_that_hold_lists_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [10], "tags": [["a", "b"]], "price": [1.0]}).write_parquet(path)
    with pytest.raises(DataError, match=r"expected plain columns, got .* in \['tags'\]"):
        read_catalogue(path, ITEMS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_id,name\n10,a\n10,b\n", "several of item 10"),
        ("item_id,name\n11,a\n", "holds none of the 3 items"),
        ("name,price\na,1\n", "expected one column of item ids"),
        ("item_id,sku\n10,10\n", r"got \['item_id', 'sku'\]"),
        ("", "cannot be read as a catalogue"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_catalogue(path, ITEMS)


def test_another_kind_of_file_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.csv or \.parquet"):
        read_catalogue(tmp_path / "items.xlsx", ITEMS)
    with pytest.raises(UsageError, match="no such catalogue"):
        read_catalogue(tmp_path / "items.csv", ITEMS)


IDS = st.lists(st.text(max_size=4), unique=True, max_size=30) | st.lists(
    st.integers(-(2**63), 2**63 - 1), unique=True, max_size=30
)


@given(ids=IDS, wanted=st.text(max_size=4) | st.integers(-99, 99))
def test_a_look_up_finds_what_the_vocabulary_does(
    ids: list[str] | list[int], wanted: str | int
) -> None:
    kind = pl.Int64 if ids and isinstance(ids[0], int) else pl.String
    vocabulary = Vocabulary(pl.Series(ids, dtype=kind))
    found = Lookup(vocabulary, hash_ids(vocabulary.ids))
    for place, each in enumerate(ids):
        assert found.index(each) == place
        assert found.index(str(each)) == place
    if kind == pl.String:
        assert found.index(wanted) == vocabulary.indices([wanted])[0]
    assert found.index(None) == found.index(True) == -1


def test_equal_hashes_are_told_apart_by_the_ids() -> None:
    vocabulary = Vocabulary(pl.Series(["a", "b", "c"]))
    same = np.full(3, hash_ids(pl.Series(["b"]))[0])
    found = Lookup(vocabulary, same)
    assert [found.index("b"), found.index("a")] == [1, -1]
