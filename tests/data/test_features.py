"""Attributes as fields: categories, several at once, numbers; kept beside a prepared data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nmtr.cli import run as nmtr
from nmtr.data import features
from nmtr.data.features import Features, encode, features_of, with_attributes
from nmtr.data.interactions import Interactions, load
from nmtr.errors import DamagedError, DataError

FRAME = pl.DataFrame(
    {
        "kind": ["toy", "book", None, "toy", "toy", "book"],
        "tags": ["a|b", " b ", "", None, "a|a|c", "b"],
        "price": [1.0, 2.0, None, 1.0, 4.0, float("nan")],
        "title": ["one", "two", "three", "four", "five", "six"],
    }
)


def rows(found: features.Fields) -> list[dict[int, float]]:
    cuts = zip(found.indptr[:-1], found.indptr[1:], strict=True)
    return [
        dict(zip(found.columns[a:b].tolist(), found.weights[a:b].tolist(), strict=True))
        for a, b in cuts
    ]


def test_each_value_is_a_column_and_a_field_s_weights_sum_to_one() -> None:
    """kind: book 0, toy 1; tags: a 2, b 3, c 4; price: buckets from 5; title tells all apart."""
    found = encode(FRAME)
    assert features.used(FRAME) == ["kind", "tags", "price"]
    first = [{k: v for k, v in row.items() if k < 5} for row in rows(found)]
    assert first == [
        {1: 1.0, 2: 0.5, 3: 0.5}, {0: 1.0, 3: 1.0}, {}, {1: 1.0}, {1: 1.0, 2: 0.5, 4: 0.5},
        {0: 1.0, 3: 1.0},
    ]  # fmt: skip
    prices = [[k for k in row if k >= 5] for row in rows(found)]
    assert [len(each) for each in prices] == [1, 1, 0, 1, 1, 0]
    assert prices[0] == prices[3] < prices[1] < prices[4]
    assert max(found.columns) < found.n_columns
    assert found.described().tolist() == [True, True, False, True, True, True]


def test_rows_are_taken_in_any_order() -> None:
    found = encode(FRAME)
    some = found.take(np.array([4, 2, 0, 0]))
    assert rows(some) == [rows(found)[n] for n in (4, 2, 0, 0)]


def test_buckets_hold_about_as_many_rows_each() -> None:
    skewed = np.random.default_rng(0).lognormal(0, 2, 1600)
    counts = np.bincount(encode(pl.DataFrame({"price": skewed})).columns)
    assert len(counts) == features.BUCKETS
    assert counts.min() >= 99


def test_a_field_of_very_many_values_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WIDEST", 5)
    names = [f"brand {n % 20}" for n in range(60)]
    found = encode(pl.DataFrame({"brand": names}))
    assert found.n_columns == 5
    of_name = dict(zip(names, found.columns.tolist(), strict=True))
    assert [of_name[each] for each in names] == found.columns.tolist(), "one value, one column"
    more = encode(pl.DataFrame({"brand": [*names, "brand 99", "brand 99"]}))
    assert more.columns[:60].tolist() == found.columns.tolist(), "whatever else there is"


def test_a_table_without_a_usable_column_has_no_fields() -> None:
    found = encode(FRAME.select("title"))
    assert found.n_columns == 0
    assert not found.described().any()


def test_attributes_are_kept_with_the_data_and_change_its_fingerprint(
    timed: Interactions, shop: Path, tmp_path: Path
) -> None:
    given, notes = with_attributes(
        replace(timed, manifest={k: v for k, v in timed.manifest.items() if k != "fingerprint"}),
        items=shop / "items.parquet",
        users=shop / "users.parquet",
    )
    assert any("fields category, price" in note for note in notes)
    given.save(tmp_path / "data")
    opened = load(tmp_path / "data")
    assert opened.item_attributes is not None
    assert opened.user_attributes is not None
    items = pl.read_parquet(shop / "items.parquet")
    price = dict(zip(items["item_id"].to_list(), items["price"].to_list(), strict=True))
    wanted = [price[each] for each in opened.items.ids.to_list()]
    assert opened.item_attributes["price"].to_list() == wanted
    assert opened.fingerprint() != timed.fingerprint()
    found = features_of(opened)
    assert found.users is not None
    assert len(found.users.indptr) == opened.n_users + 1
    assert features_of(timed) == Features()
    (tmp_path / "data" / "item_attributes.parquet").write_bytes(b"?")
    with pytest.raises(DamagedError, match=r"item_attributes.parquet has 1 bytes"):
        load(tmp_path / "data")


def test_a_table_of_users_is_refused_by_its_own_words(timed: Interactions, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("item_id,age\n1,2\n")
    with pytest.raises(DataError, match="expected one column of user ids, named such as user_id"):
        with_attributes(timed, items=None, users=tmp_path / "people.csv")
    (tmp_path / "people.csv").write_text("user_id,age\nnobody,2\n")
    with pytest.raises(DataError, match=r"holds none of the \d+ users"):
        with_attributes(timed, items=None, users=tmp_path / "people.csv")


def test_prepare_keeps_attributes(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["prepare", f"{shop}/events-*.parquet", "--behaviors", "view,cart,buy"]
    given += ["--items", f"{shop}/items.parquet", "--out", f"{tmp_path}/data"]
    assert nmtr(given) == 0
    assert "fields category, price" in "".join(capsys.readouterr()).replace("\n", " ")
    assert load(tmp_path / "data").item_attributes is not None
