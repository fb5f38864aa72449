"""Lists drawn at random with known chances say what other policies would have got, without bias."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmtr.data.shop.truth import Truth
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.serving.ab.offpolicy import Ints, Sums, values
from nmtr.serving.ab.sequential import Floats
from nmtr.serving.http.exploration import Drawn, draw


def sums(reward: Floats, propensity: Floats, chance: Floats, persons: Ints) -> Sums:
    """Of n lists of k places each: reward, propensity and the other policy's chance (n, k)."""
    weight = chance / propensity
    places = np.full(len(reward), float(reward.shape[1]))
    return Sums((weight * reward).sum(1), weight.sum(1), places, persons)


@given(
    candidates=st.integers(0, 30), k=st.integers(1, 12), share=st.floats(0, 0.5),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_a_list_is_k_different_candidates_with_chances_of_its_places(
    candidates: int, k: int, share: float, seed: int
) -> None:
    found = draw(candidates, k, share, Random(seed))
    n = min(k, candidates)
    assert len(set(found.places)) == n == len(found.propensities)
    assert all(0 <= each < candidates for each in found.places)
    if not found.explored:
        assert found.places == list(range(n))
    for at, (place, chance) in enumerate(zip(found.places, found.propensities, strict=True)):
        best = 1 - share if place == at else 0
        assert chance == pytest.approx((share / candidates if share else 0) + best)


def test_items_stand_where_they_do_as_often_as_is_said() -> None:
    random, share, runs = Random(1), 0.4, 40_000
    met: Counter[tuple[int, int]] = Counter()
    said: dict[tuple[int, int], float] = {}
    for _ in range(runs):
        found = draw(5, 3, share, random)
        for at, (place, chance) in enumerate(zip(found.places, found.propensities, strict=True)):
            met[at, place] += 1
            said[at, place] = chance
    assert len(said) == 15
    for each, chance in said.items():
        error = math.sqrt(chance * (1 - chance) / runs)
        assert met[each] / runs == pytest.approx(chance, abs=4.5 * error)
    assert sum(said[0, place] for place in range(5)) == pytest.approx(1)


def every_list(candidates: int, k: int, share: float) -> Iterator[tuple[float, tuple[int, ...]]]:
    """All lists that may be drawn, with the chance of each list as a whole."""
    alike = 1 / math.perm(candidates, k)
    for places in itertools.permutations(range(candidates), k):
        best = places == tuple(range(k))
        yield share * alike + (1 - share) * best, places


def test_ips_is_exactly_unbiased_over_all_lists_that_could_be_drawn() -> None:
    candidates, k, share = 5, 3, 0.3
    reward = np.random.default_rng(0).random((k, candidates))  # by place and item
    target = [4, 0, 2]  # another policy's list
    worth = sum(reward[at, place] for at, place in enumerate(target))
    mean = total = 0.0
    for chance, places in every_list(candidates, k, share):
        propensity = np.array(
            [share / candidates + (1 - share) * (p == j) for j, p in enumerate(places)]
        )
        wanted = np.array([float(place == target[at]) for at, place in enumerate(places)])
        got = np.array([reward[at, place] for at, place in enumerate(places)])
        found = sums(got[None], propensity[None], wanted[None], np.array([0]))
        mean += chance * found.rewards[0]
        total += chance * found.weights[0]
    assert mean == pytest.approx(worth)
    assert total == pytest.approx(k), "so that SNIPS divides by what it should"


@pytest.fixture(scope="module")
def chances(tmp_path_factory: pytest.TempPathFactory) -> Floats:
    """(M, N) the true chance that a user of a simulated shop looks at an item shown."""
    folder = tmp_path_factory.mktemp("truth") / "shop"
    simulate(SimulatorConfig(users=200, items=60, events=8_000), folder)
    truth = Truth.load(folder / "truth")
    found = truth.probabilities(np.arange(200))[:, 0]
    return found.astype(np.float64) * 0.5


def test_on_the_simulator_both_estimates_find_another_policy_s_worth(chances: Floats) -> None:
    """Logged by popularity with exploration; asked about a policy that knows each user's taste."""
    users, _ = chances.shape
    k, M, share, runs = 4, 15, 0.4, 300
    random = np.random.default_rng(4)
    popular = np.argsort(-chances.mean(0))[:M]
    taste = np.argsort(-chances[:, popular], axis=1)[:, :k]  # places among the popular
    worth = np.take_along_axis(chances[:, popular], taste, 1).sum(1).mean()
    logged = chances[:, popular[:k]].sum(1).mean()
    assert worth > 1.2 * logged, "or there would be nothing to find"
    luck = Random(9)
    ips, snips, covered = [], [], 0
    for _ in range(runs):
        drawn: list[Drawn] = [draw(M, k, share, luck) for _ in range(users)]
        places = np.array([each.places for each in drawn])
        propensity = np.array([each.propensities for each in drawn])
        likely = np.take_along_axis(chances[:, popular], places, 1)
        reward = (random.random(likely.shape) < likely).astype(np.float64)
        found = values(sums(reward, propensity, (places == taste).astype(float), np.arange(users)))
        ips.append(found.ips.value)
        snips.append(found.snips.value)
        low, high = found.ips.interval(0.05, tau=0.3) or (0, 0)
        covered += low <= worth <= high
    for each in (ips, snips):
        error = float(np.std(each)) / math.sqrt(runs)
        assert np.mean(each) == pytest.approx(worth, abs=4 * error)
    assert np.std(snips) < np.std(ips)
    assert covered >= 0.95 * runs
