"""Batches over levels: every target pair an epoch, shares of the lower ones, negatives below."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from nmtr.data.records import CSR, Records
from nmtr.models.base import Batch
from nmtr.models.levels import Levels
from nmtr.training.levels import LevelSampler

M, N = 8, 50
Row = tuple[int, int, float]


def records() -> Records:
    """Each user has glanced at 16 items, held 8 of those, kept 4 of those."""
    users = np.repeat(np.arange(M), 16)
    place = np.tile(np.arange(16), M)
    items = (users * 5 + place * 3) % N
    sets = [CSR.from_pairs(users[place < size], items[place < size], M, N) for size in (16, 8, 4)]
    return Records(("glance", "hold", "keep"), tuple(sets))


def sampler_of(
    given: Records, *, beta: float = 0.2, negatives: int = 3, batch_size: int = 10, seed: int = 0
) -> LevelSampler:
    levels = Levels.of((), beta, given.behaviors)
    return LevelSampler.from_records(
        given, levels, negatives=negatives, batch_size=batch_size, seed=seed
    )


def rows_of(batches: list[Batch]) -> list[Row]:
    """(user, item, preferred) of every row of the batches."""
    return [
        row
        for batch in batches
        for row in zip(
            batch.user.tolist(), batch.item.tolist(), batch.target[:, 0].tolist(), strict=True
        )
    ]


def level_of(given: Records) -> dict[tuple[int, int], int]:
    return {
        pair: r
        for r, each in enumerate(given.sets)
        for pair in zip(each.row_of_each().tolist(), each.indices.tolist(), strict=True)
    }


def test_an_epoch_has_every_target_pair_half_of_the_next_level_and_a_quarter_of_the_lowest() -> (
    None
):
    given = records()
    level = level_of(given)
    sampler = sampler_of(given)
    rows = rows_of(list(sampler.epoch(0)))
    positives = Counter((u, i) for u, i, preferred in rows if preferred)
    assert max(positives.values()) == 1
    assert sampler.counts == [8 * M / 4, 4 * M / 2, 4 * M]
    assert Counter(level[pair] for pair in positives) == dict(enumerate(sampler.counts))
    assert sum(not preferred for *_, preferred in rows) == 3 * sum(sampler.counts)
    assert len(list(sampler.epoch(0))) == sampler.steps == 7


def test_lower_pairs_take_turns() -> None:
    given = records()
    sampler = sampler_of(given)
    met = Counter(
        (u, i) for epoch in range(200) for u, i, preferred in rows_of(list(sampler.epoch(epoch)))
        if preferred
    )  # fmt: skip
    level = level_of(given)
    for r, share in enumerate((0.25, 0.5, 1.0)):
        times = [met[pair] for pair, of in level.items() if of == r]
        assert np.mean(times) == 200 * share
        if share < 1:
            assert chisquare(times).pvalue > 1e-3


def test_each_positive_is_followed_by_negatives_from_below_it() -> None:
    given = records()
    level = level_of(given)
    rows = rows_of(list(sampler_of(given, beta=0.0).epoch(0)))
    for start in range(0, len(rows), 4):
        (user, item, preferred), *negatives = rows[start : start + 4]
        assert preferred == 1
        for other, j, label in negatives:
            assert (other, label) == (user, 0)
            if level[user, item]:
                assert level[user, j] < level[user, item]
            else:
                assert (user, j) not in level


def test_beta_is_the_share_of_unobserved_negatives() -> None:
    given = records()
    level = level_of(given)
    rows = [row for epoch in range(30) for row in rows_of(list(sampler_of(given).epoch(epoch)))]
    of_targets = [
        rows[at + k][:2]
        for at in range(0, len(rows), 4)
        if level[rows[at][:2]] == 2
        for k in (1, 2, 3)
    ]
    found = Counter(level.get(pair, -1) for pair in of_targets)
    # 64 pairs at weight 1/4 and 32 at 1/2: the two lower levels weigh alike.
    expected = [0.2 * len(of_targets), 0.4 * len(of_targets), 0.4 * len(of_targets)]
    assert chisquare([found[-1], found[0], found[1]], expected).pvalue > 1e-3


def test_a_seed_decides_the_batches_and_each_epoch_has_its_own() -> None:
    def rows(seed: int, epoch: int) -> list[Row]:
        return rows_of(list(sampler_of(records(), seed=seed).epoch(epoch)))

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(1, 1)
    assert rows(1, 0) != rows(2, 0)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_batch_without_overlap(world: int) -> None:
    sampler = sampler_of(records(), negatives=0)
    shares = [list(sampler.epoch(2, rank=rank, world=world)) for rank in range(world)]
    for step, whole in enumerate(sampler.epoch(2)):
        parts = [row for share in shares for row in rows_of([share[step]])]
        assert Counter(parts) == Counter(rows_of([whole]))


def test_a_user_who_has_everything_has_negatives_from_lower_levels_only() -> None:
    everything = CSR.from_pairs(np.zeros(N, np.int64), np.arange(N), 1, N)
    kept = CSR.from_pairs(np.zeros(2, np.int64), np.array([0, 1]), 1, N)
    given = Records(("glance", "keep"), (everything, kept))
    rows = rows_of(list(sampler_of(given, beta=0.5, negatives=20).epoch(0)))
    negatives = [i for _, i, preferred in rows if not preferred]
    assert negatives
    assert min(negatives) > 1


def test_one_level_is_the_target_against_the_rest() -> None:
    given = records().only(("keep",))
    rows = rows_of(list(sampler_of(given).epoch(0)))
    mine = set(level_of(given))
    assert {(u, i) for u, i, preferred in rows if preferred} == mine
    assert not {(u, i) for u, i, preferred in rows if not preferred} & mine


@pytest.mark.parametrize(("negatives", "size"), [(-1, 4), (1, 0)])
def test_counts_that_do_not_fit_are_refused(negatives: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"got {negatives} and {size}"):
        sampler_of(records(), negatives=negatives, batch_size=size)
