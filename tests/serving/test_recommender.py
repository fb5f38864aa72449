"""Recommendations: who gets what, what never comes back, and what the columns say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nmtr.data.events import ReadOptions, from_frame
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.records import Histories
from nmtr.errors import UsageError
from nmtr.evaluation.calibration import Calibration
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.serving import recommender as serving
from nmtr.serving.recommender import Recommender
from nmtr.training.run import Run

BEHAVIORS = ("view", "buy")
Event = tuple[str, int, str]


def log(events: list[Event], *, repurchase: bool = False) -> Interactions:
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "behavior"], orient="row")
    read = from_frame(frame, ReadOptions(behaviors=BEHAVIORS))
    return prepare(read, behaviors=BEHAVIORS, holdout="random", repurchase=repurchase)


def popularity(data: Interactions) -> Recommender:
    model = make("popularity", {}, Shape(data.n_users, data.n_items, data.behaviors))
    model.learn(data.records())
    return Recommender(model, data)


EVENTS: list[Event] = [
    ("ann", 7, "view"),
    ("ann", 7, "buy"),
    ("ann", 8, "view"),
    ("bob", 7, "buy"),
    ("bob", 9, "view"),
    ("cy", 8, "buy"),
    ("cy", 9, "view"),
]


def items(frame: pl.DataFrame, user: object) -> list[object]:
    return frame.filter(pl.col("user_id") == user).get_column("item_id").to_list()


def test_the_most_bought_come_first_and_bought_items_do_not_come_back() -> None:
    found = popularity(log(EVENTS)).recommend(["ann", "bob"])
    assert items(found, "ann") == [8, 9]
    assert items(found, "bob") == [8, 9]
    assert found.get_column("rank").to_list() == [1, 2, 1, 2]
    assert found.get_column("score").to_list() == [1, 0, 1, 0]


def test_repeats_lets_bought_items_back_and_exclude_seen_leaves_out_what_was_viewed() -> None:
    served = popularity(log(EVENTS))
    assert items(served.recommend(["ann"], repeats=True), "ann") == [7, 8, 9]
    assert items(served.recommend(["ann"], exclude_seen=True), "ann") == [9]
    assert items(served.recommend(["ann"], exclude_seen=True, repeats=True), "ann") == [9]


def test_a_log_prepared_for_repurchase_lets_bought_items_back_unless_told_otherwise() -> None:
    served = popularity(log(EVENTS, repurchase=True))
    assert items(served.recommend(["ann"]), "ann") == [7, 8, 9]
    assert items(served.recommend(["ann"], repeats=False), "ann") == [8, 9]


PAIRS = st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.sampled_from(BEHAVIORS))
CERTAIN: list[Event] = [("a", 1, "view"), ("a", 2, "buy")]


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(PAIRS, max_size=25), seed=st.integers(0, 5), k=st.integers(1, 8),
    seen=st.booleans(),
)  # fmt: skip
def test_what_a_user_bought_never_comes_back(
    events: list[Event], seed: int, k: int, seen: bool
) -> None:
    data = log(CERTAIN + events)
    torch.manual_seed(seed)
    shape = Shape(data.n_users, data.n_items, data.behaviors)
    served = Recommender(make("nmtr-gmf", {"embedding": 3, "init_std": 1.0}, shape), data)
    users = ["d", "a", "b", "stranger"]
    found = served.recommend(users, k=k, exclude_seen=seen)
    everything = {item for _, item, _ in CERTAIN + events}
    for user in users:
        gone = {i for u, i, r in CERTAIN + events if u == user and (seen or r == "buy")}
        given_ = items(found, user)
        assert not gone & set(given_)
        assert len(given_) == len(set(given_)) == min(k, len(everything - gone))
        mine = found.filter(pl.col("user_id") == user)
        assert mine.get_column("score").is_sorted(descending=True)
        assert mine.get_column("rank").to_list() == list(range(1, len(given_) + 1))


def test_a_stranger_gets_popular_items_and_is_told_so(finished: Run) -> None:
    served = Recommender.of(finished)
    found = served.recommend(["nobody", finished.data.users.ids[0]], k=3)
    assert found.get_column("basis").to_list() == ["popular"] * 3 + ["model"] * 3
    counts = finished.data.records().target.column_counts()
    best = finished.data.items.indices(items(found, "nobody"))
    assert sorted(counts)[-3:][::-1] == counts[best].tolist()
    assert found.get_column("score").to_list()[:3] == counts[best].tolist()
    assert found.get_column("p_buy").is_nan().to_list() == [True] * 3 + [False] * 3


def test_columns_are_probabilities_only_where_they_were_calibrated(finished: Run) -> None:
    users = finished.data.users.ids.head(5)
    found = Recommender.of(finished).recommend(users)
    shown = [f"p_{each}" for each in finished.data.behaviors]
    assert found.columns == ["user_id", "rank", "item_id", "score", *shown, "basis"]
    for name in shown:
        assert found.get_column(name).is_between(0, 1).all()
    raw = Recommender.of(replace(finished, calibration=None)).recommend(users)
    assert raw.columns[4:7] == [f"score_{each}" for each in finished.data.behaviors]
    assert raw.get_column("score_buy").to_list() == raw.get_column("score").to_list()


def test_probabilities_are_the_calibration_of_the_user_s_own_scores_and_history(
    finished: Run,
) -> None:
    data, user = finished.data, finished.data.users.ids[3]
    found = Recommender.of(finished).recommend([user], k=4)
    histories = data.records().histories(np.array(data.users.indices([user])))
    chosen = torch.tensor(data.items.indices(found.get_column("item_id")))
    with torch.inference_mode():
        model = finished.model
        scores = model.score_behaviors(model.encode(histories), histories, chosen)
    assert isinstance(finished.calibration, Calibration)
    expected = finished.calibration.probabilities(scores, histories)[0]
    for r, name in enumerate(data.behaviors):
        column = found.get_column(f"p_{name}").to_list()
        assert column == pytest.approx(expected[r].tolist(), rel=1e-5)


class Constant(Model):
    """Every score is zero; it remembers which users it was asked about."""

    reads = True
    asked: ClassVar[list[int]] = []

    def encode(self, histories: Histories) -> Tensor:
        self.asked.extend(histories.users.tolist())
        return torch.zeros(len(histories), 1)

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        return torch.zeros(len(histories), self.shape.n_behaviors, self.shape.n_items)


def constant(data: Interactions) -> Constant:
    return Constant(None, Shape(data.n_users, data.n_items, data.behaviors))


def test_ties_go_by_the_hash_of_the_item_whatever_the_order_of_the_log() -> None:
    events: list[Event] = [("u", n, "view") for n in range(1, 30)] + [("v", 3, "buy")]
    found = []
    for order in (events, events[::-1]):
        data = log(order)
        found.append(items(Recommender(constant(data), data).recommend(["u"], k=10), "u"))
    assert found[0] == found[1]
    assert found[0] != sorted(found[0], key=str)
    by_hash = np.argsort(data.item_hash)[:10]
    assert found[1] == data.items.take(by_hash).to_list()


def test_users_keep_their_order_and_may_be_named_twice(finished: Run) -> None:
    a, b = finished.data.users.ids.head(2).to_list()
    users = [b, "nobody", a, b]
    found = Recommender.of(finished).recommend(users, k=2)
    assert found.get_column("user_id").to_list() == [user for user in users for _ in range(2)]
    first, last = found.head(2), found.tail(2)
    assert first.select("rank", "item_id", "basis").equals(last.select("rank", "item_id", "basis"))
    # A product's last bits may depend on a row's place in its block.
    assert first["score"].to_list() == pytest.approx(last["score"].to_list(), rel=1e-5)


def test_ids_come_back_as_they_came(finished: Run) -> None:
    assert finished.data.items.ids.dtype == pl.Int64
    found = Recommender.of(finished).recommend([finished.data.users.ids[0]])
    assert found.schema["item_id"] == pl.Int64
    assert found.schema["user_id"] == pl.String
    numbers = pl.DataFrame({"user_id": [5, 5, 6], "item_id": ["x", "y", "x"]})
    frame = numbers.with_columns(behavior=pl.Series(["view", "buy", "buy"]))
    data = prepare(
        from_frame(frame, ReadOptions(behaviors=BEHAVIORS)), behaviors=BEHAVIORS, holdout="random"
    )
    found = popularity(data).recommend(np.array([6, 5]))  # type: ignore[arg-type]
    assert found.get_column("user_id").to_list() == [6, 5]
    assert found.get_column("item_id").to_list() == ["y", "x"]


def test_more_items_asked_for_than_there_are_gives_those_there_are(finished: Run) -> None:
    user = finished.data.users.ids[0]
    found = Recommender.of(finished).recommend([user], k=10**9, repeats=True)
    assert found.height == finished.data.n_items


def test_nobody_gets_an_empty_frame_of_the_same_columns(finished: Run) -> None:
    served = Recommender.of(finished)
    found = served.recommend([])
    assert found.height == 0
    assert found.columns == served.recommend(["x"]).columns


def test_a_user_whom_training_never_met_is_a_stranger_to_the_model() -> None:
    data = log(EVENTS)
    model = constant(data)
    known = np.array([True, False, True])
    served = Recommender(model, data, trained_users=known)
    model.asked.clear()
    found = served.recommend(["ann", "bob", "cy"], k=1)
    assert sorted(model.asked) == [-1, 0, 2]
    assert found.get_column("basis").to_list() == ["model", "fold-in", "model"]


def test_the_stream_in_parts_is_what_recommend_gives(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = pl.concat([finished.data.users.ids.head(20), pl.Series(["nobody"])])
    served = Recommender.of(finished)
    whole = served.recommend(users, k=5)
    monkeypatch.setattr(serving, "CHUNK", 6)
    seen: list[tuple[int, int]] = []
    parts = list(served.stream(users, k=5, progress=lambda done, of: seen.append((done, of))))
    assert [n for n, _ in seen] == [6, 12, 18, 21]
    streamed, names = pl.concat(parts), ["user_id", "rank", "item_id", "basis"]
    assert streamed.select(names).equals(whole.select(names))
    for name in ("score", *served.shown):  # equal but for the last bits, which depend on the block
        expected = pytest.approx(whole[name].to_list(), rel=1e-5, nan_ok=True)
        assert streamed[name].to_list() == expected


@pytest.mark.parametrize(
    ("users", "how", "words"),
    [
        (["ann"], {"k": 0}, "k: expected at least 1"),
        ("ann", {}, "expected a list of ids"),
        (["ann", 1], {}, "one type"),
    ],
)
def test_a_wrong_question_is_refused(users: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        popularity(log(EVENTS)).recommend(users, **how)
