"""Attributes go along from night to night: to the data, the model and the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.serving.refresh.conftest import Frames, Nightly

from nmtr.cli import run
from nmtr.errors import UsageError
from nmtr.serving.bundle import Bundle, open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.recommender import Recommender
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.refresh import RefusedError
from nmtr.serving.store import Store
from nmtr.training.run import Run

FEATURES: dict[str, Any] = {
    "model": "nmtr-features", "set": ("embedding=8", "epochs=2", "calibrate=false"),
}  # fmt: skip


@pytest.fixture
def items(shop: Path) -> str:
    return str(shop / "items.parquet")


@pytest.fixture
def users(shop: Path) -> str:
    return str(shop / "users.parquet")


def categories(bundle: Bundle) -> dict[Any, Any]:
    assert bundle.catalogue is not None
    return dict(zip(bundle.data.items.ids, bundle.catalogue["category"], strict=True))


def truth(items: str) -> dict[Any, Any]:
    frame = pl.read_parquet(items)
    return dict(zip(frame["item_id"], frame["category"], strict=True))


def test_a_catalogue_that_is_not_named_is_that_of_what_is_served(
    home: Home, days: Frames, nightly: Nightly, finished: Run
) -> None:
    home.path.mkdir()
    n = finished.data.n_items
    kinds = pl.DataFrame({"category": [f"c{each % 3}" for each in range(n)]})
    write_bundle(finished, home.current, catalogue=kinds)
    before = categories(open_bundle(home.current))
    new = days(59, 60).head(1).with_columns(item_id=pl.lit(-7, pl.Int64))
    log = pl.concat([days(0, 60), new.select(days(0, 1).columns)], how="vertical_relaxed")
    nightly(log.sort("timestamp"), 60)
    assert home.served() != home.pinned(), "another is served"
    after = categories(open_bundle(home.current))
    assert after.pop(-7) is None
    assert after == before


def test_named_attributes_train_the_model_and_stand_in_the_bundle(
    home: Home, days: Frames, nightly: Nightly, items: str, users: str
) -> None:
    given = {**FEATURES, "items": items, "users": users}
    nightly(days(0, 40), 40, **given)
    first = open_bundle(home.current)
    assert len(first.model.state_dict()["of_user"]) > 1
    found = nightly(days(40, 45), 45, **given)
    bundle = open_bundle(home.current)
    assert (found.outcome, bundle.path.name) == ("promoted", home.current.name)
    assert bundle.settings.training.select != "none", "fields have no names: from nothing"
    known = truth(items)
    assert categories(bundle) == {each: known[each] for each in bundle.data.items.ids}
    for name in ("of_user", "of_item"):
        assert bundle.model.state_dict()[name].abs().sum() > 0
    cold = ~bundle.trained_users()
    if cold.any():
        stranger = bundle.data.users.take(cold.nonzero()[0][:1])
        basis = Recommender.of(bundle).recommend(stranger, k=1)["basis"][0]
        assert basis in ("model", "fold-in"), "who was not trained on has attributes"


def test_attributes_of_users_may_not_be_forgotten(
    home: Home, days: Frames, nightly: Nightly, items: str, users: str
) -> None:
    nightly(days(0, 40), 40, **FEATURES, items=items, users=users)
    with pytest.raises(UsageError, match="--users"):
        nightly(days(40, 45), 45, **FEATURES, items=items)
    with pytest.raises(UsageError, match="no such catalogue"):
        nightly(days(40, 45), 45, **FEATURES, items=items, users="gone.csv")
    assert len(list(home.log.iterdir())) == 1, "nothing was taken in"


def test_the_features_of_items_alone_go_on_from_what_is_served(
    home: Home, days: Frames, nightly: Nightly, items: str
) -> None:
    with pytest.raises(UsageError, match="learns from attributes"):
        nightly(days(0, 40), 40, **FEATURES)
    nightly(days(0, 40), 40, **FEATURES, items=items)
    nightly(days(40, 45), 45, **FEATURES)
    bundle = open_bundle(home.current)
    assert len(bundle.model.state_dict()["of_item"]) > 1
    assert bundle.catalogue is not None


def test_who_is_erased_leaves_a_model_of_attributes(
    home: Home, days: Frames, nightly: Nightly, items: str, users: str, tmp_path: Path
) -> None:
    someone = days(0, 40)["user_id"][0]
    with Store(tmp_path / "data" / "store.db") as store:
        nightly(days(0, 40), 40, {"store": store}, **FEATURES, items=items, users=users)
        before = open_bundle(home.current)
        others = before.data.users.ids.filter(before.data.users.ids != someone).head(20)
        store.erase(someone)
        with pytest.raises(RefusedError):  # a purge, and no more
            nightly(days(40, 41), 60, {"store": store}, **FEATURES, items=items, users=users)
        after = open_bundle(home.current)
    assert someone not in after.data.users.ids
    kept = [Recommender.of(each).recommend(others, k=5) for each in (before, after)]
    same = kept[0].filter(pl.col("basis") == "model")["item_id"]
    assert same.equals(kept[1].filter(pl.col("basis") == "model")["item_id"])


def test_a_bundle_of_a_data_set_with_attributes_has_them_as_its_catalogue(
    shop: Path, items: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, made, out = (str(tmp_path / each) for each in ("data", "run", "m.nmtr"))
    log = str(shop / "events-*.parquet")
    assert run(["prepare", log, "--behaviors", "view,cart,buy", "--items", items, "--out",
                data]) == 0  # fmt: skip
    assert run(["train", data, "--model", "popularity", "--out", made]) == 0
    assert run(["bundle", made, "--out", out]) == 0
    known = truth(items)
    found = categories(open_bundle(Path(out)))
    assert found == {each: known[each] for each in found}
