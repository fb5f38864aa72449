"""The library's front: fit, recommend, save and load, in scikit-learn's manners."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone

from nmtr import NMTR, interactions
from nmtr.data.interactions import Interactions
from nmtr.errors import DamagedError, NmtrError, UsageError

BEHAVIORS = ["view", "cart", "buy"]
OPTIONS: dict[str, Any] = {"unit": "gmf", "embedding": 8, "epochs": 2, "select": "none"}


@pytest.fixture(scope="module")
def events(shop: Path) -> pl.DataFrame:
    return pl.read_parquet(shop / "events-*.parquet")


@pytest.fixture(scope="module")
def data(events: pl.DataFrame) -> Interactions:
    return interactions(events, BEHAVIORS)


@pytest.fixture(scope="module")
def fitted(data: Interactions) -> NMTR:
    """A fitted estimator; not to be altered."""
    return NMTR(**OPTIONS).fit(data)


@pytest.fixture(scope="module")
def saved(fitted: NMTR, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    fitted.save(path)
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved estimator, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_a_frame_and_a_dict_of_arrays_are_the_same_log(
    events: pl.DataFrame, data: Interactions, fitted: NMTR
) -> None:
    arrays = {name: events.get_column(name).to_numpy() for name in events.columns}
    assert all(isinstance(each, np.ndarray) for each in arrays.values())
    other = interactions(arrays, BEHAVIORS)
    assert other.fingerprint() == data.fingerprint()
    users = data.users.ids.head(20)
    found = NMTR(**OPTIONS).fit(other).recommend(users, k=5)
    assert found.equals(fitted.recommend(users, k=5))


def test_a_lazy_frame_is_a_log_too(events: pl.DataFrame, data: Interactions) -> None:
    assert interactions(events.lazy(), BEHAVIORS).fingerprint() == data.fingerprint()


def test_fit_gives_the_estimator_itself_and_recommend_its_items(fitted: NMTR) -> None:
    found = fitted.recommend(["u000000", "nobody"], k=3)
    assert found.get_column("rank").to_list() == [1, 2, 3] * 2
    assert found.get_column("basis").to_list() == ["model"] * 3 + ["popular"] * 3
    assert {"p_view", "p_cart", "p_buy"} <= set(found.columns)


def test_the_report_has_the_model_beside_popularity_and_replay(fitted: NMTR) -> None:
    report = fitted.evaluate()
    assert list(report["models"]) == ["nmtr", "popularity", "replay"]
    assert report["protocol"] == "time"


def test_params_are_all_options_with_what_was_set() -> None:
    params = NMTR(**OPTIONS).get_params()
    assert OPTIONS.items() <= params.items()
    assert {"learning_rate", "seed", "protocol", "cascade"} <= set(params)


def test_params_make_the_same_estimator_again() -> None:
    first = NMTR(**OPTIONS, seed=3)
    assert NMTR(**first.get_params()).get_params() == first.get_params()
    assert clone(first).get_params() == first.get_params()


def test_set_params_changes_what_is_named_only() -> None:
    estimator = NMTR(**OPTIONS)
    before = estimator.get_params()
    assert estimator.set_params(epochs=7) is estimator
    assert estimator.get_params() == before | {"epochs": 7}


def test_new_params_forget_what_was_fitted_with_the_old(copy: Path) -> None:
    estimator = NMTR.load(copy)
    estimator.set_params()
    assert estimator.recommend(["u000000"], k=1).height == 1
    estimator.set_params(seed=5)
    with pytest.raises(NmtrError, match="not fitted"):
        estimator.recommend(["u000000"])


@pytest.mark.parametrize("option", ["learnin_rate", "embeding"])
def test_an_unknown_option_is_told_its_likely_name(option: str) -> None:
    meant = {"learnin_rate": "learning_rate", "embeding": "embedding"}[option]
    wrong: dict[str, Any] = {option: 1}
    with pytest.raises(UsageError, match=f"no option '{option}'; did you mean '{meant}'"):
        NMTR(**wrong)
    estimator = NMTR(**OPTIONS)
    with pytest.raises(UsageError, match="did you mean"):
        estimator.set_params(**wrong)
    assert estimator.get_params() == NMTR(**OPTIONS).get_params()


@pytest.mark.parametrize("call", ["recommend", "evaluate", "save"])
def test_an_unfitted_estimator_says_so(call: str, tmp_path: Path) -> None:
    arguments: dict[str, tuple[Any, ...]] = {"recommend": (["a"],), "save": (tmp_path / "model",)}
    with pytest.raises(NmtrError, match="not fitted yet; call fit"):
        getattr(NMTR(), call)(*arguments.get(call, ()))
    assert not list(tmp_path.iterdir())


def test_fit_refuses_a_raw_frame_and_says_how_to_prepare_it(events: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match=r"got DataFrame; make them with nmtr\.interactions"):
        NMTR().fit(events)  # type: ignore[arg-type]  # what a caller may get wrong


def test_behaviors_are_a_list_not_one_text(events: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match="expected a list of names"):
        interactions(events, "view,cart,buy")


def test_what_was_saved_recommends_the_same(saved: Path, fitted: NMTR, data: Interactions) -> None:
    opened = NMTR.load(saved)
    users = pl.concat([data.users.ids, pl.Series(["nobody"])])
    assert opened.recommend(users, k=10).equals(fitted.recommend(users, k=10))
    assert opened.get_params() == fitted.get_params() | {
        "protocol": opened.get_params()["protocol"]
    }
    assert opened.evaluate() == fitted.evaluate()


def test_a_saved_estimator_moves_as_one_folder(copy: Path, fitted: NMTR, tmp_path: Path) -> None:
    moved = copy.rename(tmp_path / "elsewhere")
    users = ["u000001", "u000002"]
    assert NMTR.load(moved).recommend(users).equals(fitted.recommend(users))


def test_saving_again_replaces_a_model_and_nothing_else(
    copy: Path, fitted: NMTR, tmp_path: Path
) -> None:
    fitted.save(copy)
    assert NMTR.load(copy).recommend(["u000001"], k=1).height == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        fitted.save(other)
    assert (other / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "calibration.json",
        "data/manifest.json",
        "data/item.npy",
        "data/users.parquet",
    ],
)
def test_a_file_cut_short_is_damage(copy: Path, name: str) -> None:
    file = copy / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DamagedError, match=file.name):
        NMTR.load(copy)


def test_a_flipped_bit_in_the_data_is_damage(copy: Path) -> None:
    file = copy / "data" / "item.npy"
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match="altered"):
        NMTR.load(copy)


def test_a_folder_without_a_run_is_no_estimator(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        NMTR.load(tmp_path)
