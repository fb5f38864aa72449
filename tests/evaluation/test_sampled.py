"""Metrics among sampled items, beside full ranking and beside drawing the items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Histories
from nmtr.data.split import Evaluation
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.evaluation.sampled import beside_full, pair_keys, sampled_ranks
from nmtr.training.run import Run

Pairs = list[tuple[int, int]]


def an_evaluation(truth: Pairs, mask: Pairs, items: int) -> Evaluation:
    users = 1 + max(row for row, _ in truth)

    def pairs(given: Pairs) -> CSR:
        rows, columns = np.array(given, np.int64).reshape(-1, 2).T
        return CSR.from_pairs(rows, columns, users, items)

    index = np.arange(users)
    return Evaluation(
        index,
        Histories(index, (pairs(mask),)),
        pairs(truth),
        pairs(mask),
        np.zeros(len(truth), np.bool_),
        np.zeros(users, np.bool_),
    )


def test_sampled_ranks_are_those_of_drawing_negatives() -> None:
    rng = np.random.default_rng(0)
    full, candidates, negatives, times = 8, 30, 10, 20_000
    others = np.array([each for each in range(1, candidates + 1) if each != full])
    drawn = [1 + (rng.permutation(others)[:negatives] < full).sum() for _ in range(times)]
    found = sampled_ranks(np.full(times, full), np.full(times, candidates), negatives=negatives)
    for rank in range(1, negatives + 2):
        assert (found == rank).mean() == pytest.approx((np.array(drawn) == rank).mean(), abs=0.012)


def test_with_every_negative_drawn_the_rank_is_the_full_one() -> None:
    ranks = np.array([1, 5, 10])
    assert sampled_ranks(ranks, np.array([10, 10, 10]), negatives=99).tolist() == [1, 5, 10]


def test_a_rank_past_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="from 1 to the number"):
        sampled_ranks(np.array([4]), np.array([3]))


@pytest.mark.parametrize("negatives", [1, 10, 99])
def test_their_distribution_is_that_of_drawing_without_return(negatives: int) -> None:
    times, full, candidates = 40_000, 60, 400
    found = sampled_ranks(np.full(times, full), np.full(times, candidates), negatives=negatives) - 1
    hits = np.arange(negatives + 1)
    expected = stats.hypergeom.pmf(hits, candidates - 1, full - 1, negatives) * times
    seen = np.bincount(found, minlength=negatives + 1)
    often = expected >= 5
    seen = np.append(seen[often], seen[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    kept = expected > 0
    assert stats.chisquare(seen[kept], expected[kept], sum_check=False).pvalue > 0.001


def test_a_draw_repeats_for_its_key_wherever_it_stands() -> None:
    rng = np.random.default_rng(1)
    candidates = rng.integers(2, 3000, 500)
    full = 1 + (rng.random(500) * candidates).astype(np.int64)
    keys = rng.integers(0, 2**63, 500).astype(np.uint64)
    found = sampled_ranks(full, candidates, keys=keys)
    order = rng.permutation(500)[:200]
    assert (sampled_ranks(full[order], candidates[order], keys=keys[order]) == found[order]).all()
    assert (sampled_ranks(full, candidates, keys=keys, seed=1) != found).any()
    # Of two models the better in full ranks is never the worse in sampled ones.
    worse = np.minimum(full + rng.integers(0, 50, 500), candidates)
    assert (sampled_ranks(worse, candidates, keys=keys) >= found).all()


def test_a_user_s_other_held_out_items_are_no_negatives() -> None:
    """6 items; user 0: true 0 and 3, ranks 1 and 4; user 1: true 1, item 0 masked, rank 3 of 5."""
    evaluation = an_evaluation([(0, 0), (0, 3), (1, 1)], [(1, 0)], 6)
    keys = np.arange(3, dtype=np.uint64)
    full, sampled = beside_full(np.array([1, 4, 3]), evaluation, keys, negatives=99)["mrr@10"]
    assert full == pytest.approx([(1 + 1 / 3) / 2, 1 / 3])  # 2 negatives before the second
    assert sampled == pytest.approx(full)  # as all 4 negatives are drawn
    for seed in range(20):  # 4 are all that there are for either user
        again = beside_full(np.array([1, 4, 3]), evaluation, keys, negatives=4, seed=seed)
        assert again["mrr@10"][1] == pytest.approx(full)
    few = beside_full(np.array([1, 4, 3]), evaluation, keys, negatives=1)["ndcg@10"][1]
    possible = {(1 + one) / 2 for one in (1, 1 / np.log2(3))}
    assert any(few[0] == pytest.approx(each) for each in possible)


def test_a_rank_behind_masked_items_counts_as_the_last() -> None:
    evaluation = an_evaluation([(0, 1)], [(0, 0)], 4)
    keys = np.zeros(1, np.uint64)
    full, sampled = beside_full(np.array([4]), evaluation, keys)["mrr@10"]
    assert (full[0], sampled[0]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_beside_a_run_full_values_are_the_report_s_and_sampled_ones_flatter(
    finished: Run, timed: Interactions
) -> None:
    evaluation = finished.split(fold="validation").evaluation
    place = ranks(finished.model, evaluation)
    keys = pair_keys(timed.user_hash, timed.item_hash, evaluation)
    found = beside_full(place, evaluation, keys, negatives=20)
    report = per_user(place, evaluation.truth.indptr)
    single = evaluation.truth.lengths() == 1
    assert single.any()
    for metric, (full, sampled) in found.items():
        assert full[single] == pytest.approx(report[metric][single])
        assert sampled.mean() >= full.mean() - 1e-12
    assert found["hr@10"][1].mean() > found["hr@10"][0].mean() + 0.1
    assert (found["hr@50"][1] == 1).all()  # 50 of 21
