"""The exported network answers as torch does, for any number of users and items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from nmtr.data.interactions import Interactions
from nmtr.data.records import Histories
from nmtr.errors import UsageError
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.run import Run, Settings

onnxruntime = pytest.importorskip("onnxruntime", reason="needs nmtr[onnx]")
pytest.importorskip("onnxscript", reason="needs nmtr[onnx]")


def untrained(data: Interactions, model: str, **options: object) -> Run:
    torch.manual_seed(3)
    settings = Settings(model, "time", {"embedding": 4, "init_std": 0.5, **options})
    shape = Shape(data.n_users, data.n_items, data.behaviors)
    return Run(None, settings, data, make(model, settings.options, shape).eval(), None, 1)


@pytest.mark.parametrize(
    ("model", "cascade", "by"),
    [
        ("nmtr-gmf", "probability", "index"),
        ("nmtr-neumf", "logit", "index"),
        ("nmtr-mlp", "none", "vector"),
        ("nmtr-gmf", "product", "vector"),
    ],
)
def test_onnx_scores_as_torch_does(
    timed: Interactions, tmp_path: Path, model: str, cascade: str, by: str
) -> None:
    from nmtr.serving.onnx_export import export_onnx

    run = untrained(timed, model, cascade=cascade)
    export_onnx(run, tmp_path / "m.onnx", by=by)  # type: ignore[arg-type]  # one of its two
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    users, items = np.array([5, -1, 0, 7]), np.arange(11)[::-1].copy()
    none = tuple(each.take(np.full(4, 0)) for each in timed_sets(timed))
    histories = Histories(users, none)
    with torch.no_grad():
        state = run.model.encode(histories)
        expected = run.model.score_behaviors(state, histories, torch.from_numpy(items))
    asked = {"users": users} if by == "index" else {"vectors": state.numpy()}
    (found,) = session.run(["logits"], asked | {"items": items})
    assert found.shape == (4, 3, 11)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    ids = pl.read_csv(tmp_path / "m.items.csv")
    assert ids["id"].to_list() == timed.items.ids.to_list()
    assert session.get_modelmeta().custom_metadata_map["behaviors"] == "view,cart,buy"


def timed_sets(data: Interactions):  # type: ignore[no-untyped-def]
    from nmtr.data.split import split

    return split(data, "time").train.sets


def test_only_nmtr_is_exported(timed: Interactions, tmp_path: Path) -> None:
    from nmtr.serving.onnx_export import export_onnx

    model = make("popularity", {}, Shape(timed.n_users, timed.n_items, timed.behaviors))
    run = Run(None, Settings("popularity"), timed, model, None, 0)
    with pytest.raises(UsageError, match="nmtr-gmf"):
        export_onnx(run, tmp_path / "m.onnx")
