"""What an older nmtr wrote is read by this one and says the same; fixtures/make.py made it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nmtr
from nmtr.cli import run
from nmtr.data.appending import append
from nmtr.data.interactions import Interactions
from nmtr.serving.bundle import check_bundle, open_bundle
from nmtr.serving.recommender import Recommender

MADE = sorted(each for each in (Path(__file__).parent / "fixtures").iterdir() if each.is_dir())
BUNDLES = [pytest.param(path, id=f"{path.parent.name} {path.stem}")
           for each in MADE for path in sorted(each.glob("*.nmtr"))]  # fmt: skip
versions = pytest.mark.parametrize("made", MADE, ids=lambda path: path.name)
bundles = pytest.mark.parametrize("path", BUNDLES)


def expected(made: Path, name: str) -> Any:
    return json.loads((made / "expected.json").read_text(encoding="utf-8"))[name]


def check_rows(source: Recommender | nmtr.NMTR, rows: list[dict[str, Any]]) -> None:
    """Each item that was recommended has the scores that it had; and the same lead."""
    users = list(dict.fromkeys(each["user_id"] for each in rows))
    ranked = source.recommend(users, k=1000).fill_nan(None)
    now = {(each["user_id"], each["item_id"]): each for each in ranked.iter_rows(named=True)}
    for row in rows:
        found = now[row["user_id"], row["item_id"]]
        assert found["basis"] == row["basis"]
        # A rank may change with the last digits of another processor's floats.
        assert abs(found["rank"] - row["rank"]) <= 1
        told = {name: row[name] for name in row if name.startswith(("score", "p_"))}
        assert len(told) >= 4
        for name, score in told.items():
            assert found[name] == (None if score is None else pytest.approx(score, rel=1e-3))


@bundles
def test_a_bundle_recommends_as_when_it_was_made(path: Path) -> None:
    rows = expected(path.parent, path.name)
    assert len({each["user_id"] for each in rows}) == 4
    assert len(rows) >= 30
    check_rows(Recommender.of(open_bundle(path)), rows)


@bundles
def test_a_bundle_is_of_the_version_it_says_and_small(path: Path) -> None:
    assert check_bundle(path)["nmtr"] == path.parent.name
    assert path.stat().st_size < 100_000
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


@bundles
def test_a_bundle_is_read_by_the_command_line(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = expected(path.parent, path.name)[0]
    words = ["recommend", str(path), "--users", best["user_id"], "-k", "1", "--json"]
    assert run(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["item_id"] == best["item_id"]
    assert row["score"] == pytest.approx(best["score"], 1e-3)


@versions
def test_a_saved_estimator_recommends_as_when_it_was_saved(made: Path) -> None:
    check_rows(nmtr.NMTR.load(made / "saved"), expected(made, "saved"))


@versions
def test_prepared_data_sets_hold_what_they_held(made: Path) -> None:
    assert held(nmtr.load(made / "saved" / "data")) == expected(made, "data")
    assert held(nmtr.load(made / "sharded")) == expected(made, "sharded")


@versions
def test_a_day_goes_onto_an_older_data_set_as_it_did_then(made: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(made / "saved" / "data", tmp_path / "data"))
    append(data, [made / "day.csv"])
    assert held(nmtr.load(data)) == expected(made, "sharded")


def held(data: Interactions) -> dict[str, Any]:
    return {
        "users": data.n_users, "items": data.n_items, "behaviors": list(data.behaviors),
        "records": [each.nnz for each in data.records().sets], "fingerprint": data.fingerprint(),
    }  # fmt: skip


def test_there_is_an_older_version() -> None:
    assert MADE
    assert MADE[0].name == "0.1.0"
