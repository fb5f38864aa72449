"""NMTR with the observed funnel: hiding, the softmax, and what is observed counting as learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.models.heldout import hold_out
from nmtr.models.nmtr_funnel import Funnel
from nmtr.models.observed import Unit, counts_of

M, N = 300, 40
NAMES = ("hold", "keep")


def a_log() -> Records:
    """Users hold 5 to 11 items of their half of the shop, and keep half of those: a nested log."""
    rng = np.random.default_rng(5)
    pairs: list[list[tuple[int, int]]] = [[], []]
    for user in range(M):
        held = rng.permutation(N // 2)[: rng.integers(5, 12)] + N // 2 * (user % 2)
        for level, items in enumerate((held, held[: len(held) // 2])):
            pairs[level] += [(user, item) for item in items]
    columns = [np.array(each).T for each in pairs]
    return Records(NAMES, tuple(CSR.from_pairs(users, items, M, N) for users, items in columns))


NESTED = a_log()
HALF = (torch.arange(M) % 2)[:, None] == (torch.arange(N) // (N // 2))[None]  # each user's own


def taught(records: Records = NESTED, **options: Any) -> Funnel:
    torch.manual_seed(2)
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    options = {"candidates": N, "sweeps": 40, "hidden": 8, **options}
    model = make("nmtr-funnel", options, shape)
    model.learn(records)
    assert isinstance(model, Funnel)
    return model.eval()


def scores(model: Funnel, histories: Histories) -> Tensor:
    with torch.inference_mode():
        return model.score(model.encode(histories), histories).clone()


def everyone(records: Records = NESTED) -> Histories:
    return records.histories(np.arange(records.n_users))


def dense(pairs: CSR) -> Tensor:
    found = torch.zeros(pairs.n_rows, pairs.n_columns, dtype=torch.bool)
    found[pairs.row_of_each(), pairs.indices.astype(np.int64)] = True
    return found


def test_one_target_record_of_each_user_who_has_two_is_held_out() -> None:
    records = Records(
        NAMES, (NESTED.sets[0], NESTED.sets[1].take(np.where(np.arange(M), np.arange(M), -1)))
    )
    for hide in (0.0, 0.5, 1.0):
        held = hold_out(records, hide, np.random.default_rng(0))
        left, users, items = held.left, held.users, held.items
        assert (users == np.arange(1, M)).all()
        assert records.target.contains(users, items).all()
        assert not left.target.contains(users, items).any()
        assert left.target.nnz == records.target.nnz - len(users)
        kept = left.sets[0].contains(users, items)
        assert kept.mean() == pytest.approx(1 - hide, abs=0.1)
        assert left.sets[0].nnz == NESTED.sets[0].nnz - (~kept).sum()


def test_users_of_one_target_record_lose_nothing() -> None:
    one = Records(NAMES, (NESTED.sets[0], CSR.from_pairs(np.arange(M), np.zeros(M, int), M, N)))
    held = hold_out(one, 1.0, np.random.default_rng(0))
    left, users = held.left, held.users
    assert len(users) == 0
    assert left.sets[0].nnz == one.sets[0].nnz
    assert torch.isfinite(scores(taught(one), everyone(one))).all()


@pytest.mark.parametrize("observed", [True, False])
def test_scores_are_the_units_of_what_was_observed_added_up(observed: bool) -> None:
    model, histories = taught(observed=observed), everyone()
    with torch.inference_mode():
        members = model._scores(histories)
        row, item = (
            x.flatten() for x in torch.meshgrid(torch.arange(M), torch.arange(N), indexing="ij")
        )
        x = model._inputs([each[row, item] for each in members], row, item, counts_of(histories))
        x = (x - model.middle) / model.spread
        expected = model.units[0](x).view(M, N)
        if observed:
            expected += model.units[1](x).view(M, N) * dense(NESTED.sets[0])
    assert torch.allclose(scores(model, histories), expected, atol=2e-4)


def test_outside_the_funnel_only_the_members_that_were_named_speak() -> None:
    both = ("ease-all", "ease")
    free, told = taught(members=both), taught(members=both, outside=("ease",))
    held = dense(NESTED.sets[0])
    for model in (free, told):
        before = scores(model, everyone())
        model.members[0].get_buffer("between").mul_(3.0)
        moved = (scores(model, everyone()) - before).abs() > 1e-6
        assert moved[held].float().mean() > 0.9
        assert bool(moved[~held].any()) == (model is free)


def test_until_it_has_learned_the_order_is_that_of_the_last_member_outside() -> None:
    options = {"members": ("ease", "ease-all"), "outside": ("ease",)}
    model = make("nmtr-funnel", options, Shape(M, N, NAMES))
    assert isinstance(model, Funnel)
    assert model._unit(0).straight.weight[0].nonzero().flatten().tolist() == [0]


def test_the_loss_is_the_softmax_over_all_that_is_no_target_record() -> None:
    model = taught()
    held = hold_out(NESTED, 0.5, np.random.default_rng(1))
    users, items, histories = held.users, held.items, held.histories()
    cases = model._cases(held, np.random.default_rng(2))
    cases.x = (cases.x - model.middle) / model.spread
    with torch.inference_mode():
        found = cases.loss(model.units)
    y = scores(model, histories).masked_fill(dense(histories.items[-1]), -torch.inf)
    expected = -y.log_softmax(1)[torch.arange(len(users)), torch.from_numpy(items)].mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_what_is_drawn_stands_for_the_rest() -> None:
    """With few candidates each user's pairs stand for all N, less target records and the answer."""
    model = taught(candidates=10)
    held = hold_out(NESTED, 0.5, np.random.default_rng(1))
    users, histories = held.users, held.histories()
    cases = model._cases(held, np.random.default_rng(2))
    stands = torch.zeros(len(users)).index_add(0, cases.row, cases.extra.exp())
    rest = N - torch.from_numpy(histories.items[-1].lengths())
    drew = torch.bincount(cases.row[cases.extra > 0], minlength=len(users)) > 0
    assert drew.float().mean() > 0.9
    assert torch.allclose(stands[drew], rest[drew].float(), rtol=1e-4)


def test_what_is_observed_counts_where_it_tells_and_not_where_it_does_not() -> None:
    """All that is kept was held; what another user of the half held says nothing."""
    order = np.arange(M).reshape(-1, 2)
    others = np.random.default_rng(8).permutation(order).ravel()
    for held, least, most in ((NESTED.sets[0], 2, 20), (NESTED.sets[0].take(others), -0.8, 0.8)):
        records = Records(NAMES, (held, NESTED.target))
        found = scores(taught(records, hide=0.0), everyone(records))
        free = HALF & ~dense(NESTED.target)
        inside, outside = found[free & dense(held)], found[free & ~dense(held)]
        assert least < inside.mean() - outside.mean() < most


def test_on_a_nested_log_what_is_outside_the_funnel_does_not_collapse() -> None:
    """The hiding rule. Unless records are hidden, nothing from outside is ever kept."""
    hidden, bare = (scores(taught(hide=each), everyone()) for each in (0.5, 0.0))
    held = dense(NESTED.sets[0]) & ~dense(NESTED.target)
    outside = HALF & ~dense(NESTED.sets[0])

    def share_outside(found: Tensor) -> float:
        p = found.masked_fill(dense(NESTED.target), -torch.inf).softmax(1)
        return float((p * outside).sum(1).mean())

    assert share_outside(bare) < 0.1
    assert share_outside(hidden) > 0.35
    assert (hidden[outside].mean() - hidden[held].mean()) > (
        bare[outside].mean() - bare[held].mean()
    )


def test_a_user_is_met_by_their_history_alone() -> None:
    model, histories = taught(), everyone()
    strangers = replace(histories, users=np.full(M, -1))
    assert torch.equal(scores(model, strangers), scores(model, histories))


def test_a_unit_begins_without_its_relus() -> None:
    torch.manual_seed(0)
    assert (Unit(5, 3)(torch.randn(7, 5)) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": ("ease", "als")}, "members: expected some of ease, ease-all, ials, ials-all"),
        ({"members": ()}, "members: expected some of"),
        ({"outside": ("ials",)}, "outside: expected some of"),
        ({"hide": 1.5}, "hide: expected a share"),
        ({"candidates": 0}, "must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weights": (1.0,)}, "weights: expected 2 of them"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make("nmtr-funnel", options, Shape(M, N, NAMES))
