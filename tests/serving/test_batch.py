"""Recommendations to a file: the same as on the screen, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nmtr.errors import UsageError
from nmtr.serving import recommender as serving
from nmtr.serving.batch import write
from nmtr.serving.recommender import Recommender
from nmtr.training.run import Run


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_holds_what_recommend_gives(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(serving, "CHUNK", 7)  # so that the file is put together from parts
    served = Recommender.of(finished)
    users = finished.data.users.ids.head(40)
    out = tmp_path / f"recs{suffix}"
    rows = write(served, users, out, k=4)
    expected = served.recommend(users, k=4)
    found = pl.read_parquet(out) if suffix == ".parquet" else pl.read_csv(out)
    assert rows == expected.height == 160
    names = ["user_id", "rank", "item_id", "basis"]
    assert found.select(names).rows() == expected.select(names).rows()
    assert found["p_buy"].to_list() == pytest.approx(expected["p_buy"].to_list())
    assert [each.name for each in tmp_path.iterdir()] == [out.name]


def test_no_users_make_a_file_without_rows(finished: Run, tmp_path: Path) -> None:
    none = finished.data.users.ids.head(0)
    assert write(Recommender.of(finished), none, tmp_path / "recs.parquet", k=4) == 0
    found = pl.read_parquet(tmp_path / "recs.parquet")
    assert found.columns[:3] == ["user_id", "rank", "item_id"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHUNK", 7)
    out = tmp_path / "recs.parquet"
    out.write_bytes(b"old")

    def interrupt(done: int, of: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(Recommender.of(finished), finished.data.users.ids, out, k=4, progress=interrupt)
    assert out.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["recs.parquet"]


@pytest.mark.parametrize(
    ("name", "k", "words"), [("recs.xlsx", 4, r"\.parquet or \.csv"), ("recs.csv", 0, "at least 1")]
)
def test_what_cannot_be_written_is_refused_without_a_file(
    finished: Run, tmp_path: Path, name: str, k: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        write(Recommender.of(finished), finished.data.users.ids, tmp_path / name, k=k)
    assert not any(tmp_path.iterdir())
