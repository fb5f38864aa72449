"""Batches: every recorded pair once an epoch, and for each of its behaviours its negatives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from nmtr.data.records import CSR, Records
from nmtr.models.base import Batch
from nmtr.training import windows
from nmtr.training.sampler import Divisible, NegativeRule, Sampler
from nmtr.training.shards import ShardSampler, divided, joined_up
from nmtr.training.windows import WindowSampler

M, N = 5, 12
RULES: tuple[NegativeRule, ...] = ("unobserved", "unseen")
quick = settings(max_examples=40, deadline=None)
pair = st.tuples(st.integers(0, M - 1), st.integers(0, N - 1))
# At most 6 of a user's 12 items, so that 200 draws never all miss.
sets = st.lists(pair, min_size=1, max_size=6)
records_of_any = st.lists(sets, min_size=1, max_size=3)
Pairs = list[tuple[int, int]]


def records_of(given_sets: list[Pairs], users: int = M, items: int = N) -> Records:
    found = []
    for some in given_sets:
        both = np.array(some, np.int64).reshape(-1, 2)
        found.append(CSR.from_pairs(both[:, 0], both[:, 1], users, items))
    return Records(tuple(f"behaviour {r}" for r in range(len(found))), tuple(found))


def sampler_of(
    records: Records,
    *,
    negatives: tuple[int, ...] = (3,),
    rule: NegativeRule = "unobserved",
    batch_size: int = 4,
    seed: int = 0,
) -> Sampler:
    return Sampler.from_records(
        records, negatives=negatives, rule=rule, batch_size=batch_size, seed=seed
    )


def recorded(records: Records, r: int) -> set[tuple[int, int]]:
    found = records.sets[r]
    return set(zip(found.row_of_each().tolist(), found.indices.tolist(), strict=True))


def listed(batches: list[Batch]) -> list[tuple[int, int, list[float], list[float]]]:
    """(user, item, target, weight) of every row of the batches."""
    return [
        row
        for batch in batches
        for row in zip(
            batch.user.tolist(), batch.item.tolist(), batch.target.tolist(),
            batch.weight.tolist(), strict=True,
        )
    ]  # fmt: skip


@quick
@given(records_of_any, st.sampled_from(RULES), st.integers(1, 5), st.data())
def test_each_positive_of_each_behaviour_has_exactly_its_negatives(
    given_sets: list[Pairs], rule: NegativeRule, batch_size: int, data: st.DataObject
) -> None:
    records = records_of(given_sets)
    r = len(given_sets)
    counts = tuple(data.draw(st.lists(st.integers(0, 4), min_size=r, max_size=r)))
    sampler = sampler_of(records, negatives=counts, rule=rule, batch_size=batch_size)
    rows = listed(list(sampler.epoch(0)))
    seen = set().union(*(recorded(records, each) for each in range(r)))
    for each in range(r):
        mine = recorded(records, each)
        positives = Counter((u, i) for u, i, target, weight in rows if target[each])
        assert positives == Counter(mine), "every pair exactly once an epoch"
        negatives = Counter(u for u, _, target, weight in rows if weight[each] and not target[each])
        expected: Counter[int] = Counter()
        for user, _ in mine:
            expected[user] += counts[each]
        assert negatives == +expected
        for user, item, target, weight in rows:
            assert weight[each] in (0, 1)
            if weight[each] and not target[each]:
                assert (user, item) not in (seen if rule == "unseen" else mine)
            if target[each]:
                assert weight[each] == 1


@quick
@given(records_of_any, st.integers(1, 7))
def test_an_epoch_has_as_many_steps_as_it_says(given_sets: list[Pairs], size: int) -> None:
    sampler = sampler_of(records_of(given_sets), batch_size=size)
    assert len(list(sampler.epoch(0))) == sampler.steps


BIG = [
    [(u, i) for u in range(M) for i in range(8 - u)],
    [(u, i) for u in range(M) for i in (0, 2)],
]


@pytest.mark.parametrize("rule", RULES)
def test_negatives_are_uniform_over_what_they_may_be(rule: NegativeRule) -> None:
    records = records_of(BIG)
    sampler = sampler_of(records, negatives=(40,), rule=rule, batch_size=100, seed=11)
    rows = listed([batch for epoch in range(20) for batch in sampler.epoch(epoch)])
    for r in range(2):
        for user in range(M):
            mine = {i for u, i in recorded(records, 0 if rule == "unseen" else r) if u == user}
            drawn = Counter(
                i for u, i, target, weight in rows if u == user and weight[r] and not target[r]
            )
            counts = [drawn[item] for item in range(N) if item not in mine]
            assert sum(counts) == drawn.total() > 1000
            assert chisquare(counts).pvalue > 1e-3


def test_pairs_come_in_an_order_of_chance() -> None:
    records = records_of(BIG)
    first = Counter(
        (batch.user[0].item(), batch.item[0].item())
        for epoch in range(3000)
        for batch in [next(sampler_of(records, negatives=(0,), batch_size=1).epoch(epoch))]
    )
    assert len(first) == 30
    assert chisquare(list(first.values())).pvalue > 1e-3


@pytest.mark.parametrize("rule", RULES)
def test_a_seed_decides_the_batches_and_each_epoch_has_its_own(rule: NegativeRule) -> None:
    def rows(seed: int, epoch: int) -> list[object]:
        sampler = sampler_of(records_of(BIG), rule=rule, seed=seed)
        return list(listed(list(sampler.epoch(epoch))))

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(1, 1)
    assert rows(1, 0) != rows(2, 0)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_processes_share_every_batch_without_overlap(world: int) -> None:
    sampler = sampler_of(records_of(BIG), negatives=(0,), batch_size=5)

    def pairs(batch: Batch) -> list[tuple[int, int]]:
        return list(zip(batch.user.tolist(), batch.item.tolist(), strict=True))

    shares = [list(sampler.epoch(2, rank=rank, world=world)) for rank in range(world)]
    for step, whole in enumerate(sampler.epoch(2)):
        parts = [each[step] for each in shares]
        assert Counter(pairs(whole)) == Counter(p for part in parts for p in pairs(part))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_processes_draw_different_negatives() -> None:
    records = records_of([[(0, 0), (1, 0)]])  # alike, so that only chance can tell them apart
    sampler = sampler_of(records, negatives=(50,), batch_size=2)
    ours, theirs = (list(sampler.epoch(0, rank=rank, world=2)) for rank in (0, 1))
    assert ours[0].item[1:].tolist() != theirs[0].item[1:].tolist()


@pytest.mark.parametrize("rule", RULES)
def test_a_user_who_has_everything_gets_no_negatives_and_harms_nobody(rule: NegativeRule) -> None:
    records = records_of([[(0, i) for i in range(N)] + [(1, 0)]])
    rows = listed(list(sampler_of(records, rule=rule).epoch(0)))
    assert sum(u == 0 for u, *_ in rows) == N
    assert sum(u == 1 for u, *_ in rows) == 4


def test_who_has_everything_under_one_behaviour_still_has_negatives_under_another() -> None:
    records = records_of([[(0, i) for i in range(N)], [(0, 3)]])
    rows = listed(list(sampler_of(records).epoch(0)))
    negatives = [row for row in rows if row[3] == [0, 1] and row[2] == [0, 0]]
    assert len(negatives) == 3
    assert len(rows) == N + 3


def test_a_pair_s_draw_serves_all_of_its_behaviours_that_it_can() -> None:
    records = records_of([[(0, 0)], [(0, 0)], [(0, 0)]])
    rows = listed(list(sampler_of(records, negatives=(4,)).epoch(0)))
    assert len(rows) == 5
    assert [row[3] for row in rows] == [[1, 1, 1]] * 5


def test_a_batch_is_pair_major_with_types_for_torch() -> None:
    batch = next(sampler_of(records_of(BIG)).epoch(0))
    assert batch.user.dtype == batch.item.dtype == torch.int64
    assert batch.target.dtype == batch.weight.dtype == torch.float32
    assert batch.target.shape == batch.weight.shape == (len(batch), 2)


@pytest.mark.parametrize(
    ("negatives", "size", "said"),
    [
        ((1, 2, 3), 4, "expected one count or 2 .*behaviour 0, behaviour 1.* got 3"),
        ((-1,), 4, r"got \(-1, -1\)"),
        ((1,), 0, "and 0"),
    ],
)
def test_counts_that_do_not_fit_are_refused(
    negatives: tuple[int, ...], size: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sampler_of(records_of(BIG), negatives=negatives, batch_size=size)


@pytest.mark.parametrize("rule", RULES)
@quick
@given(records_of_any, st.integers(1, 5), st.integers(1, 7))
def test_windows_have_every_pair_once_and_its_negatives(
    rule: NegativeRule, given_sets: list[Pairs], size: int, block: int
) -> None:
    records = records_of(given_sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BLOCK", block)
        patch.setattr(windows, "WINDOW", 2)
        sampler = WindowSampler.from_records(
            records, negatives=(2,), rule=rule, batch_size=size, seed=5
        )
    batches = list(sampler.epoch(3))
    assert len(batches) == sampler.steps
    for r in range(len(records.sets)):
        positive, negative = Counter[tuple[int, int]](), Counter[int]()
        for batch in batches:
            rows = zip(batch.user.tolist(), batch.item.tolist(), batch.target[:, r].tolist(),
                       batch.weight[:, r].tolist(), strict=True)  # fmt: skip
            for user, item, target, weight in rows:
                if target:
                    positive[user, item] += 1
                elif weight:
                    assert (user, item) not in recorded(records, r)
                    negative[user] += 1
        assert positive == Counter(recorded(records, r))
        assert negative == Counter({u: 2 * n for u, n in Counter(u for u, _ in positive).items()})


def test_windows_draw_alike_by_a_seed_and_anew_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BLOCK", 8)
    monkeypatch.setattr(windows, "WINDOW", 3)
    rng = np.random.default_rng(1)
    pairs = list(zip(rng.integers(0, 40, 300), rng.integers(0, 99, 300), strict=True))
    records = records_of([pairs], users=40, items=99)

    def drawn(seed: int, epoch: int) -> list[list[int]]:
        sampler = WindowSampler.from_records(
            records, negatives=(1,), rule="unseen", batch_size=8, seed=seed
        )
        assert len(sampler.windows) > 3
        return [(each.user * 1000 + each.item).tolist() for each in sampler.epoch(epoch)]

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3)
    assert drawn(1, 2) != drawn(2, 2)


def many(seed: int = 1) -> Records:
    """Some 300 pairs of 40 users under two behaviours, with more users in the first half."""
    rng = np.random.default_rng(seed)
    users = np.minimum(rng.integers(0, 40, 300), rng.integers(0, 40, 300))
    pairs = list(zip(users, rng.integers(0, 99, 300), strict=True))
    return records_of([pairs, pairs[::3]], users=40, items=99)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BLOCK", 16)
    monkeypatch.setattr(windows, "WINDOW", 3)


def windowed(records: Records, batch_size: int) -> WindowSampler:
    found = WindowSampler.from_records(
        records, negatives=(2,), rule="unobserved", batch_size=batch_size, seed=4
    )
    assert len(found.windows) > 2
    return found


def positives(batch: Batch) -> list[tuple[int, int]]:
    met = batch.target.any(1)
    return list(zip(batch.user[met].tolist(), batch.item[met].tolist(), strict=True))


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_every_batch_of_windows_without_overlap(world: int) -> None:
    sampler = windowed(many(), 7)
    shares = [list(sampler.epoch(2, rank=rank, world=world)) for rank in range(world)]
    for step, whole in enumerate(sampler.epoch(2)):
        parts = [each[step] for each in shares]
        assert torch.equal(torch.cat([each.item for each in parts]), whole.item)
        assert torch.equal(torch.cat([each.weight for each in parts]), whole.weight)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("kind", [Sampler, WindowSampler])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_on_their_own_users_draw_together_what_one_draws(
    kind: type[Sampler] | type[WindowSampler], world: int
) -> None:
    """An epoch at the same global batch: as many steps, of as many pairs, every pair once."""
    records, size = many(), 7

    def own(of: Records) -> Divisible:
        return kind.from_records(of, negatives=(2,), rule="unobserved", batch_size=size, seed=4)

    whole = own(records)
    steps = -(-whole.size // size)
    (alone,) = [list(ShardSampler(whole, steps).epoch(3))]
    shape = (40, 99)
    parts = [joined_up(each, shape, records.behaviors) for each in divided(records, world)]
    shares = [
        list(ShardSampler(own(each), steps).epoch(3, rank=rank, world=world))
        for rank, each in enumerate(parts)
    ]
    assert [len(each) for each in shares] == [len(alone)] * world == [steps] * world
    together = [[p for each in shares for p in positives(each[step])] for step in range(steps)]
    assert all(abs(len(pairs) - size) < 1 + world for pairs in together)
    once = Counter(p for batch in alone for p in positives(batch))
    assert set(once.values()) == {1}
    assert Counter(p for pairs in together for p in pairs) == once
    rows = listed([batch for each in shares for batch in each])
    for r in range(2):
        mine = recorded(records, r)
        drawn = [(u, i) for u, i, target, weight in rows if weight[r] and not target[r]]
        assert len(drawn) == 2 * len(mine)
        assert not set(drawn) & mine


@pytest.mark.usefixtures("small_windows")
def test_windows_cut_anywhere_give_each_pair_once_and_empty_batches_where_cuts_meet() -> None:
    sampler = windowed(many(), 7)
    ends = np.cumsum([sampler.sizes[each] for each in sampler._order(1)]).tolist()
    cuts = [0, 0, 5, ends[0], ends[0], ends[1] - 1, ends[2] + 2, sampler.size, sampler.size]
    found = [positives(each) for each in sampler.between(cuts, 1)]
    assert [len(each) for each in found] == np.diff(cuts).tolist()
    assert sorted(p for each in found for p in each) == sorted(recorded(many(), 0))
    others = [positives(each) for each in sampler.between(cuts, 1, salt=1)]
    assert others == found, "the salt is for negatives"
