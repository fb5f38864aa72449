"""Exploration: some lists are drawn at random, with propensities that are known exactly.

With probability `share` a list of k items is an ordered draw without replacement, all equally
likely, from the M best that the rules allow; otherwise it is the k best in their order. So the
chance that an item stands at place j is

    share / M + (1 - share) · [it is the j-th best]

which is what the exposures log, whichever way the list came about.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple


class Drawn(NamedTuple):
    """places: which of the candidates are shown, in order; propensities: of each where it is."""

    places: list[int]
    propensities: list[float]
    explored: bool


def draw(candidates: int, k: int, share: float, random: Random) -> Drawn:
    """Places and propensities for a list of k from so many candidates, best first."""
    k = min(k, candidates)
    if not share or not k:
        return Drawn(list(range(k)), [1.0] * k, False)
    explored = random.random() < share
    places = random.sample(range(candidates), k) if explored else list(range(k))
    each = share / candidates
    chances = [each + (1 - share if place == at else 0) for at, place in enumerate(places)]
    return Drawn(places, chances, explored)
