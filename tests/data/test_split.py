"""Hold-outs by pair: what trains, who is ranked for, what is masked, what is true."""

from __future__ import annotations

import random
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from nmtr.data.events import from_frame
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.records import CSR
from nmtr.data.split import Fold, Protocol, Split, held_out_pairs, split

ORDER = ["view", "cart", "buy"]
FOLDS: tuple[Fold, ...] = ("test", "validation")
PROTOCOLS: tuple[Protocol, ...] = ("as-published", "discovery", "leak-free")
Event = tuple[str, str, str]
Pair = tuple[str, str]
quick = settings(max_examples=40, deadline=None)
event = st.tuples(
    st.sampled_from("ABCDE"), st.sampled_from("stuvwxyz"), st.sampled_from([*ORDER, "buy"])
)
logs = st.lists(event, max_size=60)
# Every behaviour occurs, and Y can be held out under every protocol, twice.
ALWAYS: list[Event] = [
    *(("Z", "z", name) for name in ORDER),
    *(("Y", item, "buy") for item in "stuv"),
]


def data_of(events: list[Event], seed: int = 0) -> Interactions:
    frame = pl.DataFrame(
        [*events, *ALWAYS], schema=["user_id", "item_id", "behavior"], orient="row"
    )
    return prepare(from_frame(frame), behaviors=ORDER, holdout="random", seed=seed)


def pairs_of(data: Interactions, found: CSR, users: list[str] | None = None) -> set[Pair]:
    """(user id, item id) of a set; `users` names the rows where these are not all users."""
    names = data.users.ids.to_list() if users is None else users
    items = data.items.ids.to_list()
    return {(names[u], items[i]) for u, i in zip(found.row_of_each(), found.indices, strict=True)}


def recorded(events: list[Event], behavior: str) -> set[Pair]:
    return {(u, i) for u, i, b in [*events, *ALWAYS] if b == behavior}


def names_of(data: Interactions, found: Split) -> list[str]:
    return data.users.take(found.evaluation.users).to_list()


def truth_of(data: Interactions, found: Split) -> set[Pair]:
    return pairs_of(data, found.evaluation.truth, names_of(data, found))


folds = st.tuples(st.sampled_from(PROTOCOLS), st.sampled_from(FOLDS))


@quick
@given(logs, folds)
def test_a_held_out_pair_trains_no_target_and_is_never_masked(
    events: list[Event], which: tuple[Protocol, Fold]
) -> None:
    data = data_of(events)
    found = split(data, which[0], fold=which[1])
    truth = truth_of(data, found)
    evaluation = found.evaluation
    names = names_of(data, found)
    assert truth <= recorded(events, "buy")
    assert not truth & pairs_of(data, found.train.target)
    assert not truth & pairs_of(data, evaluation.mask, names)
    assert not truth & pairs_of(data, evaluation.histories.items[-1], names)
    assert len(names) == len(set(names)) == evaluation.truth.nnz == len(evaluation.sealed)


@quick
@given(logs, folds)
def test_records_are_kept_or_held_out_and_nothing_else(
    events: list[Event], which: tuple[Protocol, Fold]
) -> None:
    protocol, fold = which
    data = data_of(events)
    found = split(data, protocol, fold=fold)
    tests = {(str(u), str(i)) for u, i in _named(data, *held_out_pairs(data))}
    gone = tests | (truth_of(data, found) if fold == "validation" else set())
    for name, kept in zip(ORDER, found.train.sets, strict=True):
        removed = recorded(events, name) - pairs_of(data, kept)
        assert pairs_of(data, kept) <= recorded(events, name)
        assert removed <= gone
        if name == "buy":
            assert removed == gone
        elif protocol == "leak-free":
            assert removed == gone & recorded(events, name)
        elif fold == "test":
            assert not removed
        else:
            assert not removed & (tests - truth_of(data, found))


def _named(data: Interactions, users: object, items: object) -> list[tuple[object, object]]:
    names = data.users.take(np.asarray(users)), data.items.take(np.asarray(items))
    return list(zip(*names, strict=True))


@quick
@given(logs, st.sampled_from([("discovery", "validation"), ("leak-free", "test")]))
def test_what_is_to_be_discovered_is_in_no_behaviour(
    events: list[Event], which: tuple[Protocol, Fold]
) -> None:
    data = data_of(events)
    found = split(data, which[0], fold=which[1])
    for kept in found.train.sets:
        assert not truth_of(data, found) & pairs_of(data, kept)


@quick
@given(logs)
def test_discovery_tests_the_pairs_that_have_no_auxiliary_record(events: list[Event]) -> None:
    data = data_of(events)
    everyone = truth_of(data, split(data, "as-published", fold="test"))
    met = recorded(events, "view") | recorded(events, "cart")
    assert truth_of(data, split(data, "discovery", fold="test")) == everyone - met


@quick
@given(logs, folds)
def test_slices_are_told_by_the_log_as_recorded(
    events: list[Event], which: tuple[Protocol, Fold]
) -> None:
    data = data_of(events)
    found = split(data, which[0], fold=which[1])
    names, items = names_of(data, found), data.items.ids.to_list()
    truth = found.evaluation.truth
    met = recorded(events, "view") | recorded(events, "cart")
    told = [
        (names[u], items[i]) in met for u, i in zip(truth.row_of_each(), truth.indices, strict=True)
    ]
    assert found.evaluation.in_funnel.tolist() == told


@quick
@given(logs, folds)
def test_masks_are_the_protocol_s(events: list[Event], which: tuple[Protocol, Fold]) -> None:
    data = data_of(events)
    found = split(data, which[0], fold=which[1])
    names = names_of(data, found)
    counted = [2] if which[0] == "as-published" else [0, 1, 2]
    trained = set().union(*(pairs_of(data, found.train.sets[r]) for r in counted))
    expected = {pair for pair in trained if pair[0] in names}
    assert pairs_of(data, found.evaluation.mask, names) == expected
    for r, mine in enumerate(found.evaluation.histories.items):
        whole = pairs_of(data, found.train.sets[r])
        assert pairs_of(data, mine, names) == {pair for pair in whole if pair[0] in names}


@quick
@given(logs, st.randoms(use_true_random=False), st.sampled_from(FOLDS), st.integers(0, 3))
def test_hold_outs_are_drawn_by_the_ids_whatever_the_order(
    events: list[Event], shuffler: random.Random, fold: Fold, seed: int
) -> None:
    data = data_of(events, seed=seed)
    again = list(events)
    shuffler.shuffle(again)
    shuffled = data_of(again, seed=seed)
    for protocol in PROTOCOLS:
        ours, theirs = split(data, protocol, fold=fold), split(shuffled, protocol, fold=fold)
        assert truth_of(data, ours) == truth_of(shuffled, theirs)
        for mine, other in zip(ours.train.sets, theirs.train.sets, strict=True):
            assert pairs_of(data, mine) == pairs_of(shuffled, other)


@quick
@given(logs)
def test_one_pair_of_each_user_who_has_two_and_the_others_train(events: list[Event]) -> None:
    data = data_of(events)
    found = split(data, "as-published", fold="test")
    bought = recorded(events, "buy")
    counts = {user: sum(u == user for u, _ in bought) for user, _ in bought}
    assert sorted(names_of(data, found)) == sorted(u for u, n in counts.items() if n >= 2)
    single = {pair for pair in bought if counts[pair[0]] == 1}
    assert single <= pairs_of(data, found.train.target)
    validation = split(data, "as-published", fold="validation")
    assert set(names_of(data, validation)) == {u for u, n in counts.items() if n >= 3}
    assert not truth_of(data, validation) & truth_of(data, found)


@quick
@given(logs)
def test_the_sealed_half_is_told_by_the_user_s_hash(events: list[Event]) -> None:
    data = data_of(events)
    found = split(data, "as-published", fold="test")
    told = [bool(blake2b(name.encode()).digest()[-1] & 1) for name in names_of(data, found)]
    assert found.evaluation.sealed.tolist() == told


def test_a_saved_data_set_holds_out_what_the_log_does(tmp_path: Path) -> None:
    rng = random.Random(5)
    events = [(rng.choice("ABCDE"), rng.choice("stuvwxyz"), rng.choice(ORDER)) for _ in range(120)]
    data_of(events).save(tmp_path / "data")
    opened, fresh = load(tmp_path / "data"), data_of(events)
    for protocol in PROTOCOLS:
        for fold in FOLDS:
            ours, theirs = split(opened, protocol, fold=fold), split(fresh, protocol, fold=fold)
            assert truth_of(opened, ours) == truth_of(fresh, theirs)
