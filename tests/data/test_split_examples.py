"""Hold-outs by pair on logs small enough to work out by hand, or large enough to count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nmtr.data.events import from_frame
from nmtr.data.interactions import Interactions
from nmtr.data.prepare import prepare
from nmtr.data.split import Split, default_protocol, held_out_pairs, split
from nmtr.errors import DataError, NmtrError, UsageError

ORDER = ["view", "cart", "buy"]
Event = tuple[str, str, str]


def data_of(
    events: Sequence[Event],
    holdout: str | Path = "random",
    *,
    seed: int = 0,
    repurchase: bool = False,
) -> Interactions:
    whole = [*events, *(("Z", "z", name) for name in ORDER)]  # every behaviour occurs
    frame = pl.DataFrame(whole, schema=["user_id", "item_id", "behavior"], orient="row")
    log = from_frame(frame)
    return prepare(log, behaviors=ORDER, holdout=holdout, seed=seed, repurchase=repurchase)


def truth_of(data: Interactions, found: Split) -> list[tuple[str, str]]:
    truth = found.evaluation.truth
    users = data.users.take(found.evaluation.users[truth.row_of_each()])
    return list(zip(users, data.items.take(truth.indices), strict=True))


def test_seeds_hold_out_different_pairs() -> None:
    events = [(user, item, "buy") for user in "ABCDE" for item in "stuvwxyz"]
    drawn = [held_out_pairs(data_of(events, seed=seed))[1] for seed in range(4)]
    assert len({tuple(items.tolist()) for items in drawn}) == 4


@pytest.mark.parametrize(
    ("seed", "test", "validation", "kept"),
    [
        (0, "Au Bs Ct Dx Ev Fv", "As Bu Cv Ds Eu Fs", "CF"),
        (3, "Ax Bv Cs Dx Et Fw", "As Bw Cw Dt Es Ft", "DF"),
    ],
)
def test_what_is_held_out_is_so_in_every_version(
    seed: int, test: str, validation: str, kept: str
) -> None:
    """By hashes of ids and seed: others would move every number that was ever measured."""
    events = [(user, item, b) for user in "ABCDEF" for item in "stuvwx" for b in ("view", "buy")]
    data = data_of(events, seed=seed)
    assert [u + i for u, i in truth_of(data, split(data, "as-published"))] == test.split()
    found = split(data, "as-published", fold="validation")
    assert [u + i for u, i in truth_of(data, found)] == validation.split()
    truth = found.evaluation.truth
    owners = found.evaluation.users[truth.row_of_each()]
    stays = found.train.sets[0].contains(owners, truth.indices)
    assert "".join(data.users.take(owners[stays])) == kept


def test_every_target_pair_is_as_likely_to_be_held_out() -> None:
    events = [(f"user {n}", item, "buy") for n in range(4000) for item in "stuv"]
    data = data_of(events)
    counts = np.bincount(held_out_pairs(data)[1], minlength=data.n_items)[:4]
    assert (np.abs(counts - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)).all()


def test_as_published_validation_keeps_the_funnel_of_half_the_users() -> None:
    events = [
        (f"user {n}", item, b) for n in range(2000) for item in "stu" for b in ("view", "buy")
    ]
    data = data_of(events)
    found = split(data, "as-published", fold="validation")
    truth = found.evaluation.truth
    owners = found.evaluation.users[truth.row_of_each()]
    kept = int(found.train.sets[0].contains(owners, truth.indices).sum())
    assert found.evaluation.in_funnel.all()
    assert abs(kept - 1000) < 4 * np.sqrt(2000 / 4)


@pytest.mark.parametrize("protocol", ["time", "last"])
def test_protocols_of_time_need_data_held_out_by_time(protocol: str) -> None:
    with pytest.raises(UsageError, match=f"protocol {protocol} needs data prepared with --holdout"):
        split(data_of([]), protocol)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown protocol 'tome'; did you mean 'time'"):
        split(data_of([]), "tome")
    with pytest.raises(UsageError, match="got train and None"):
        split(data_of([]), fold="train")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="got test and all"):
        split(data_of([]), mask="all")  # type: ignore[arg-type]


def test_nobody_to_rank_for_is_an_error_that_says_why() -> None:
    nested = [(user, item, b) for user in "AB" for item in "stuv" for b in ORDER]
    with pytest.raises(DataError, match="every held-out pair has an auxiliary record"):
        split(data_of(nested), "discovery")
    with pytest.raises(NmtrError, match="a user needs two target items"):
        split(data_of([("A", "s", "buy")]), "as-published")


class TestPairsFromAFile:
    LOG: tuple[Event, ...] = (
        ("A", "s", "buy"), ("A", "t", "view"), ("A", "t", "buy"), ("A", "v", "buy"),
        ("B", "s", "view"), ("B", "u", "buy"),
    )  # fmt: skip

    def held(self, path: Path, *pairs: str) -> Interactions:
        lines = "".join(f"{each[0]},{each[1]},buy\n" for each in pairs)
        (path / "held.csv").write_text("user_id,item_id,behavior\n" + lines)
        return data_of(self.LOG, path / "held.csv")

    def test_the_named_pairs_are_the_truth_and_leave_the_target(self, tmp_path: Path) -> None:
        data = self.held(tmp_path, "At", "Bs")
        found = split(data, "as-published")
        assert truth_of(data, found) == [("A", "t"), ("B", "s")]
        assert found.evaluation.in_funnel.tolist() == [True, True]
        kept = data.items.take(found.train.target.row(0)).to_list()
        assert kept == ["s", "v"]
        assert found.train.sets[0].nnz == 3

    def test_several_pairs_of_one_user_are_one_ranking_with_several_truths(
        self, tmp_path: Path
    ) -> None:
        data = self.held(tmp_path, "Bs", "At", "Av")
        found = split(data, "as-published")
        assert found.evaluation.users.tolist() == [0, 1]
        assert truth_of(data, found) == [("A", "t"), ("A", "v"), ("B", "s")]
        assert found.evaluation.in_funnel.tolist() == [True, False, True]
        assert truth_of(data, split(data, "discovery")) == [("A", "v")]

    def test_a_user_whom_training_has_never_met_is_a_stranger(self, tmp_path: Path) -> None:
        data = self.held(tmp_path, "Ns", "At")
        found = split(data, "as-published")
        users = data.users.take(found.evaluation.users).to_list()
        assert dict(zip(users, found.evaluation.histories.users.tolist(), strict=True)) == {
            "A": 0,
            "N": -1,
        }

    def test_validation_is_drawn_inside_what_the_file_leaves(self, tmp_path: Path) -> None:
        data = self.held(tmp_path, "At")
        ((user, item),) = truth_of(data, split(data, "as-published", fold="validation"))
        assert user == "A"
        assert item in ("s", "v")


class TestMasks:
    NESTED: tuple[Event, ...] = tuple(
        (user, item, b) for user in "AB" for item in "stuv" for b in ("view", "buy")
    )

    def test_a_wider_mask_leaves_out_the_pairs_that_it_covers(self) -> None:
        fresh = [("C", item, "buy") for item in "st"]
        data = data_of([*self.NESTED, *fresh])
        assert len(truth_of(data, split(data, "as-published"))) == 3
        found = split(data, "as-published", mask="seen")
        assert truth_of(data, found) == truth_of(data, split(data, "discovery"))
        assert [user for user, _ in truth_of(data, found)] == ["C"]
        evaluation = found.evaluation
        assert evaluation.mask.n_rows == len(evaluation.histories) == len(evaluation.sealed) == 1
        assert evaluation.in_funnel.tolist() == [False]
        with pytest.raises(DataError, match="auxiliary record too"):
            split(data_of(self.NESTED), "as-published", mask="seen")

    def test_no_mask_masks_nothing(self) -> None:
        found = split(data_of(self.NESTED), "leak-free", mask="none").evaluation
        assert (found.mask.n_rows, found.mask.nnz) == (len(found.users), 0)

    def test_what_may_be_bought_again_is_not_masked(self) -> None:
        data = data_of(self.NESTED, repurchase=True)
        assert split(data, "as-published").evaluation.mask.nnz == 0

    def test_the_description_names_the_protocol_and_a_mask_of_one_s_own(self) -> None:
        data = data_of(self.NESTED)
        assert "mask none" in split(data, "leak-free", mask="none").describe()
        assert "mask none" not in split(data, "leak-free").describe()
        assert split(data, "leak-free").describe().startswith("leak-free, test: ")

    def test_discovery_is_the_headline_where_there_are_no_times(self) -> None:
        assert default_protocol(data_of(self.NESTED)) == "discovery"
