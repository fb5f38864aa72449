"""A model that looks at times, served: from its run, from a bundle, with events since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmtr.data.interactions import Interactions
from nmtr.serving.bundle import open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.histories import together
from nmtr.serving.refresh.purging import write_without
from nmtr.serving.requests import Event, Request
from nmtr.serving.service import Service
from nmtr.training.run import Run, Settings, execute
from nmtr.training.trainer import Training

OPTIONS = {"members": ("ease",), "hide": 0.0, "counts": False, "recency": True, "sweeps": 60}


@pytest.fixture(scope="module")
def run(timed: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Run:
    how = Training(calibrate=False, threads=1)
    out = tmp_path_factory.mktemp("recency") / "run"
    return execute(timed, Settings("nmtr-funnel", "time", OPTIONS, how), out)


@pytest.fixture(scope="module")
def served(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = tmp_path_factory.mktemp("bundle") / "model.nmtr"
    write_bundle(run, path)
    return Service.of(open_bundle(path))


def lists(service: Service, users: list[str]) -> list[tuple[object, ...]]:
    found = [service.recommend(Request(user=each, k=10)) for each in users]
    return [tuple((x.item, round(x.score, 5)) for x in each.items) for each in found]


def some(run: Run) -> list[str]:
    return run.data.users.take(np.arange(0, run.data.n_users, 29)).to_list()


def test_a_bundle_recommends_what_its_run_does(run: Run, served: Service) -> None:
    assert lists(served, some(run)) == lists(Service.of(run), some(run))


def test_its_scores_are_the_models_of_records_with_their_times(run: Run, served: Service) -> None:
    user = some(run)[3]
    index = run.data.users.indices([user])
    histories = run.data.records(timed=True).histories(index)
    scores = run.model.score(run.model.encode(histories), histories)[0].detach().numpy()
    found = served.recommend(Request(user=user, k=10)).items
    places = run.data.items.indices([each.item for each in found])
    assert np.allclose([each.score for each in found], scores[places], atol=1e-4)


def test_an_item_carted_last_stands_higher_than_the_same_carted_first(served: Service) -> None:
    items, hour = served.ids(np.arange(30, 36)), 3_600_000
    gained = []
    for timed in (True, False):  # an event without a time comes after those before it
        for item in items:
            others = [each for each in items if each != item]
            place = {}
            for name, order in (("last", [*others, item]), ("first", [item, *others])):
                at = [10**12 + n * hour if timed else None for n in range(len(order))]
                events = tuple(Event(e, "cart", t) for e, t in zip(order, at, strict=True))
                found = served.recommend(Request(events=events, k=150)).items
                place[name] = [each.item for each in found].index(item)
            gained.append(place["first"] - place["last"])
    assert min(gained) >= 0
    assert np.mean(gained) > 1


def test_an_explanation_takes_items_out_and_the_rest_keep_their_times(served: Service) -> None:
    items = served.ids(np.arange(40, 46))
    events = tuple(Event(each, "view", 10**12 + n) for n, each in enumerate(items))
    user = served.ask(Request(events=events)).user
    assert user.times is not None
    less = user.without(int(user.items[0][2]))
    kept = user.times_of(less)
    assert kept is not None
    assert kept[0].tolist() == np.delete(user.times[0], 2).tolist()
    assert served.explain(Request(events=events), items[-1]).score == pytest.approx(
        next(x.score for x in served.recommend(Request(events=events, k=150)).items
             if x.item == items[-1]), abs=1e-4
    )  # fmt: skip


def test_histories_put_together_hold_the_times(served: Service) -> None:
    users = [served.ledger.at(each) for each in (3, 7)]
    found = together(
        [3, 7], [u.items for u in users], served.data.n_items, [u.times for u in users]
    )
    expected = served.data.records().histories(np.array([3, 7]))
    for one, other in zip(found.items, expected.items, strict=True):
        assert one.at is not None
        assert other.at is not None
        assert np.array_equal(one.at, other.at)


def test_a_bundle_less_some_users_keeps_the_times_of_the_others(
    run: Run, served: Service, tmp_path: Path
) -> None:
    write_bundle(run, tmp_path / "model.nmtr")
    bundle = open_bundle(tmp_path / "model.nmtr")
    keep = np.arange(run.data.n_users) % 3 > 0
    write_without(bundle, keep, tmp_path / "less.nmtr")
    users = [each for each in some(run) if keep[run.data.users.indices([each])[0]]]
    assert lists(Service.of(open_bundle(tmp_path / "less.nmtr")), users) == lists(served, users)
