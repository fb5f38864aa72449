"""Recommendations to a file: the same as on the screen, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from nmtr.errors import UsageError
from nmtr.evaluation.ranking import Progress
from nmtr.serving import recommender as serving
from nmtr.serving.batch import Question, parts_of, write
from nmtr.serving.recommender import Recommender
from nmtr.serving.rules import Rules
from nmtr.training.run import Run


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_holds_what_recommend_gives(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(serving, "CHUNK", 7)  # so that the file is put together from parts
    served = Recommender.of(finished)
    users = finished.data.users.ids.head(40)
    out = tmp_path / f"recs{suffix}"
    rows = write(served, users, out, Question(4))
    expected = served.recommend(users, k=4)
    found = pl.read_parquet(out) if suffix == ".parquet" else pl.read_csv(out)
    assert rows == expected.height == 160
    names = ["user_id", "rank", "item_id", "basis"]
    assert found.select(names).rows() == expected.select(names).rows()
    assert found["p_buy"].to_list() == pytest.approx(expected["p_buy"].to_list())
    assert [each.name for each in tmp_path.iterdir()] == [out.name]


def test_no_users_make_a_file_without_rows(finished: Run, tmp_path: Path) -> None:
    none = finished.data.users.ids.head(0)
    assert write(Recommender.of(finished), none, tmp_path / "recs.parquet", Question(4)) == 0
    found = pl.read_parquet(tmp_path / "recs.parquet")
    assert found.columns[:3] == ["user_id", "rank", "item_id"]


def noted(seen: list[int]) -> Progress:
    """A progress that notes how many users are done."""
    return lambda done, of: seen.append(done)


class Killed(BaseException):
    """The process ends here."""


def interrupted(served: Recommender, users: pl.Series, out: Path, question: Question) -> None:
    """Begin a batch and be killed after its second part."""

    def kill(done: int, of: int) -> None:
        if done > 7:
            raise Killed

    with pytest.raises(Killed):
        write(served, users, out, question, progress=kill)


def test_an_interrupted_write_leaves_the_old_file_and_goes_on_after_its_parts(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHUNK", 7)
    users, out = finished.data.users.ids.head(40), tmp_path / "recs.parquet"
    out.write_bytes(b"old")
    interrupted(Recommender.of(finished), users, out, Question(4))
    assert out.read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == [parts_of(out).name, "recs.parquet"]

    seen: list[int] = []
    again = Recommender.of(finished)
    rows = write(again, users, out, Question(4), progress=noted(seen))
    assert seen == [21, 28, 35, 40], "the first two parts were not made again"
    found = pl.read_parquet(out)
    assert rows == found.height == 160
    assert found["user_id"].unique(maintain_order=True).equals(users)
    assert [each.name for each in tmp_path.iterdir()] == ["recs.parquet"]
    write(again, users, whole := tmp_path / "whole.parquet", Question(4))
    assert_frame_equal(pl.read_parquet(whole), found)


def test_another_question_model_or_stock_begins_anew(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHUNK", 7)
    users, out = finished.data.users.ids.head(20), tmp_path / "recs.parquet"
    other = replace(finished, settings=replace(finished.settings, validation_users=9))
    stocked = Recommender.of(finished)
    stocked.service.stock(finished.data.items.ids.to_list()[:9])
    for served, whom, question in (
        (Recommender.of(finished), users, Question(5)),
        (Recommender.of(finished), users, Question(4, slice="new")),
        (Recommender.of(finished), users, Question(4, rules=Rules(exclude="seen"))),
        (Recommender.of(finished), users.reverse(), Question(4)),
        (Recommender.of(other), users, Question(4)),
        (stocked, users, Question(4)),
    ):
        interrupted(Recommender.of(finished), users, out, Question(4))
        seen: list[int] = []
        write(served, whom, out, question, progress=noted(seen))
        assert seen == [7, 14, 20]
        first = served.recommend(whom.head(1), k=question.k, slice=question.slice,
                                 rules=question.rules)  # fmt: skip
        assert_frame_equal(pl.read_parquet(out).head(first.height), first)


def test_a_batch_that_goes_on_keeps_its_moment(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHUNK", 7)
    out = tmp_path / "recs.parquet"
    asked: list[int] = []
    served = Recommender.of(finished)
    interrupted(served, finished.data.users.ids.head(30), out, Question(4))
    rank = served.service.rank

    def watched(asks: Any) -> Any:
        asked.append(asks[0].now)
        return rank(asks)

    monkeypatch.setattr(served.service, "rank", watched)
    moment = json.loads((parts_of(out) / "asked.json").read_text())["now"]
    monkeypatch.setattr("time.time", lambda: 0.0)
    write(served, finished.data.users.ids.head(30), out, Question(4))
    assert set(asked) == {moment}


@pytest.mark.parametrize(
    ("name", "k", "words"), [("recs.xlsx", 4, r"\.parquet or \.csv"), ("recs.csv", 0, "at least 1")]
)
def test_what_cannot_be_written_is_refused_without_a_file(
    finished: Run, tmp_path: Path, name: str, k: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        write(Recommender.of(finished), finished.data.users.ids, tmp_path / name, Question(k))
    assert not any(tmp_path.iterdir())
