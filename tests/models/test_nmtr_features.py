"""NMTR with attributes: what its sums are, and what stands for whom training did not meet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from nmtr.data.features import Features, encode, with_attributes
from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Records
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.models.nmtr_features import FeaturedNMTR
from nmtr.serving.bundle import open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.recommender import Recommender
from nmtr.training.run import execute, open_run
from nmtr.training.settings import Settings
from nmtr.training.trainer import Training, batches, train

M, N = 40, 30
BEHAVIORS = ("glance", "keep")
COLD_USERS, COLD_ITEMS = (4, 5), (3, 8)
# Two kinds of users want two kinds of items; the kinds are their attributes.
KINDS = pl.DataFrame({"kind": [f"k{n % 2}" for n in range(M)]})
FEATURES = Features(encode(KINDS), encode(KINDS[:N]))


def records() -> Records:
    rng = np.random.default_rng(1)
    cells = (np.arange(M)[:, None] % 2 == np.arange(N) % 2) & (rng.random((M, N)) < 0.6)
    cells[list(COLD_USERS)], cells[:, list(COLD_ITEMS)] = False, False
    kept = cells & (rng.random((M, N)) < 0.6)
    pairs = [np.nonzero(each) for each in (cells, kept)]
    return Records(BEHAVIORS, tuple(CSR.from_pairs(u, i, M, N) for u, i in pairs))


GIVEN = records()


def new(features: Features = FEATURES, **options: Any) -> FeaturedNMTR:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = Shape(M, N, BEHAVIORS, features)
    model = make("nmtr-features", {"embedding": 8, **options}, shape)
    assert isinstance(model, FeaturedNMTR)
    return model


def trained(epochs: int = 20, features: Features = FEATURES, **options: Any) -> FeaturedNMTR:
    model = new(features, **options)
    config = Training(learning_rate=0.1, batch_size=64)
    train(model, GIVEN, config, phase="refit", epochs=epochs)
    model.eval()
    return model


def scores(model: Model, users: Any) -> torch.Tensor:
    histories = GIVEN.histories(np.asarray(users))
    with torch.inference_mode():
        return model.score(model.encode(histories), histories)


def test_what_scores_is_the_own_part_and_the_fields_sum() -> None:
    model = trained(2)
    state = model.state_dict()
    for name, n, cold in (
        ("user", M, COLD_USERS),
        ("item", N, COLD_ITEMS),
        ("bias", N, COLD_ITEMS),
    ):
        own = state[f"own_{name}"].clone()
        own[list(cold)] = 0
        wanted = own + state[f"of_{name}"][torch.arange(n) % 2]
        assert torch.allclose(state[name], wanted, atol=1e-6)


def test_cold_items_and_cold_users_are_known_by_their_kind() -> None:
    model = trained()
    found = scores(model, range(M))
    same = torch.arange(M)[:, None] % 2 == torch.arange(N) % 2
    for at in (found[list(COLD_USERS)], same[list(COLD_USERS)]), (
        found[:, list(COLD_ITEMS)], same[:, list(COLD_ITEMS)],
    ):  # fmt: skip
        values, alike = at
        assert values[alike].mean() > values[~alike].mean() + 1
    warm = [item for item in range(N) if item not in COLD_ITEMS]
    mine = found[:, list(COLD_ITEMS)][same[:, list(COLD_ITEMS)]].mean()
    assert mine > found[:, warm][~same[:, warm]].mean() + 1


def test_a_cold_item_is_nobody_s_negative() -> None:
    model = new()
    model.learn(GIVEN)
    before = model.own_bias.detach().clone()
    batch = next(batches(model, GIVEN, Training(batch_size=400)).epoch(0))
    assert bool((batch.item == COLD_ITEMS[0]).any())
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    grad = model.own_bias.grad
    assert grad is not None
    dense = grad.to_dense()
    assert not dense[list(COLD_ITEMS)].any()
    assert dense[0].any()
    assert torch.equal(before, model.own_bias)


@pytest.mark.parametrize("unit", ["gmf", "mlp"])
def test_the_compiled_loss_is_the_plain_one(unit: str) -> None:
    found = []
    for fused in (True, False):
        model = new(unit=unit, layers=(8, 4), l2=0.0)
        model.learn(GIVEN)
        batch = next(batches(model, GIVEN, Training(batch_size=100)).epoch(0))
        loss = (
            model.loss(batch)
            if fused
            else model.plain_loss(
                replace(batch, weight=batch.weight * ~model.cold_item[batch.item][:, None])
            )
        )
        loss.backward()  # type: ignore[no-untyped-call]
        grads = [each.grad for each in model.parameters()]
        found.append((loss.item(), [g.to_dense() if g is not None else g for g in grads]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, atol=1e-5)


def test_without_attributes_it_is_nmtr() -> None:
    config = Training(learning_rate=0.1, batch_size=64)
    torch.manual_seed(0)
    plain = make("nmtr-gmf", {"embedding": 8}, Shape(M, N, BEHAVIORS))
    train(plain, GIVEN, config, phase="refit", epochs=2)
    assert torch.allclose(
        scores(plain, range(M)), scores(trained(2, Features()), range(M)), atol=1e-5
    )


def test_a_saved_model_scores_without_the_attributes(tmp_path: Path) -> None:
    model = trained(3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = new(Features())
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores(other, range(M)), scores(model, range(M)))


def test_data_without_attributes_are_refused(timed: Interactions) -> None:
    with pytest.raises(UsageError, match=r"learns from attributes, and the data set has none"):
        execute(timed, Settings("nmtr-features", training=Training(epochs=1)))


def test_a_run_resumes_evaluates_and_serves_from_its_bundle(
    timed: Interactions, shop: Path, tmp_path: Path
) -> None:
    about = {k: v for k, v in timed.manifest.items() if k != "fingerprint"}
    data, _ = with_attributes(
        replace(timed, manifest=about), items=shop / "items.parquet", users=shop / "users.parquet"
    )
    data.save(tmp_path / "data")
    options = {"embedding": 8}
    training = Training(epochs=2, calibrate=False)
    execute(data, Settings("nmtr-features", options=options, training=training), tmp_path / "run")
    run = open_run(tmp_path / "run", data=tmp_path / "data")
    write_bundle(run, tmp_path / "model.nmtr")
    users = data.users.ids[:5].to_list()
    bundle = open_bundle(tmp_path / "model.nmtr")
    one, other = (Recommender.of(each).recommend(users, k=3) for each in (run, bundle))
    assert one.equals(other)
    assert bundle.model.describes
