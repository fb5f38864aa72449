"""What another policy would have got, from lists that were partly drawn at random.

Where item a stood at place j with the known chance p > 0 (nmtr.serving.http.exploration), and
another policy would put it there with the chance q, the logged reward r counts w = q / p times:

    IPS    Σ w r / lists                   unbiased, if p > 0 wherever q > 0
    SNIPS  Σ w r / Σ w · places / lists    a little biased, much steadier

Rewards are those of an item at its place (Li et al., KDD 2018, on item-position models): what the
rest of the list does to it averages out over that policy's lists only if it does nothing.
Horvitz and Thompson 1952; Swaminathan and Joachims, NIPS 2015.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nmtr.serving.ab.sequential import Estimate, Floats, ratio

Ints = npt.NDArray[np.int64]


class Values(NamedTuple):
    """Rewards per list."""

    ips: Estimate
    snips: Estimate


class Sums(NamedTuple):
    """What is added up over the places of each list; (n,) each.

    rewards: Σ w r; weights: Σ w; places: how many; persons: whose list, any numbers.
    """

    rewards: Floats
    weights: Floats
    places: Floats
    persons: Ints


def values(of: Sums) -> Values:
    """IPS and SNIPS, with variances that take a person's lists as one cluster."""
    _, person = np.unique(of.persons, return_inverse=True)
    rewards, weights, places = (
        np.bincount(person, each).astype(np.float64) for each in (of.rewards, of.weights, of.places)
    )
    lists = np.bincount(person).astype(np.float64)
    ips = ratio(rewards, lists)
    each = ratio(rewards, weights)
    scale = float(places.sum() / lists.sum()) if len(lists) else 0.0
    return Values(ips, Estimate(each.value * scale, each.variance * scale**2))
