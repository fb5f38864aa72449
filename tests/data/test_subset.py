"""Parts of a log keep its users, items and hold-out, and lose only what they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nmtr.data.interactions import Interactions, load
from nmtr.data.split import held_out_pairs
from nmtr.data.subset import subset
from nmtr.errors import UsageError

Prepared = Callable[..., Interactions]


def test_records_of_the_behaviours_kept_are_those_of_the_whole_log(prepared: Prepared) -> None:
    data = prepared("random")
    part = subset(data, ("view", "buy"))
    assert part.behaviors == ("view", "buy")
    assert (part.n_users, part.n_items) == (data.n_users, data.n_items)
    whole = data.records()
    for ours, theirs in zip(part.records().sets, (whole.sets[0], whole.sets[2]), strict=True):
        assert np.array_equal(ours.keys(), theirs.keys())
    for mine, before in zip(held_out_pairs(part), held_out_pairs(data), strict=True):
        assert np.array_equal(mine, before)
    assert part.fingerprint() != data.fingerprint()


def test_a_share_keeps_about_so_many_pairs_whole_and_every_target(prepared: Prepared) -> None:
    data = prepared("random")
    whole = data.records()
    draws = [subset(data, data.behaviors, share=0.5, seed=seed).records() for seed in (0, 1)]
    for records in draws:
        assert np.array_equal(records.target.keys(), whole.target.keys())
        for ours, theirs in zip(records.sets[:-1], whole.sets[:-1], strict=True):
            assert set(ours.keys()) < set(theirs.keys())
            spread = 4 * np.sqrt(theirs.nnz / 4)
            assert abs(ours.nnz - theirs.nnz / 2) < spread
    assert not np.array_equal(draws[0].sets[0].keys(), draws[1].sets[0].keys())
    again = subset(data, data.behaviors, share=0.5, seed=1)
    assert np.array_equal(again.records().sets[0].keys(), draws[1].sets[0].keys())
    levels = [set(each.keys()) for each in draws[0].sets[:2]]
    both = set(whole.sets[0].keys()) & set(whole.sets[1].keys())
    kept = [{key for key in both if key in each} for each in levels]
    assert kept[0] != kept[1]  # a behaviour's draw is its own


def test_a_part_may_be_saved_and_opened(prepared: Prepared, tmp_path: Path) -> None:
    part = subset(prepared("random"), ("cart", "buy"), share=0.3, seed=2)
    part.save(tmp_path / "part")
    opened = load(tmp_path / "part")
    assert opened.fingerprint() == part.fingerprint()
    assert opened.manifest["subset"]["share"] == 0.3


@pytest.mark.parametrize(
    ("behaviors", "share", "message"),
    [
        (("view",), 1.0, "expected the target, buy"),
        (("wish", "buy"), 1.0, "no behaviour 'wish'"),
        (("view", "buy"), 0.0, "share"),
        (("view", "buy"), 1.5, "share"),
    ],
)
def test_what_makes_no_sense_is_refused(
    prepared: Prepared, behaviors: tuple[str, ...], share: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        subset(prepared("random"), behaviors, share=share)
