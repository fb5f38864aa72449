"""NMTR's scoring network as an ONNX file: users and items in, logits of every behaviour out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nmtr.errors import NmtrError, UsageError
from nmtr.files import replace_file
from nmtr.models.losses import link
from nmtr.models.nmtr import NMTR
from nmtr.models.units import GMF, MLP, NeuMF
from nmtr.training.run import Run

By = Literal["index", "vector"]


class Scorer(nn.Module):
    """users (B,) indices, -1 for a stranger, or vectors (B, E), and items (N,) to (B, R, N).

    Plain tensors without loops over rows, so that any runtime can hold it.
    """

    def __init__(self, model: NMTR, by: By) -> None:
        super().__init__()
        self.model, self.by = model, by

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        model = self.model
        p = users
        if self.by == "index":
            mean = model.user.mean(0)
            p = torch.where((users >= 0)[:, None], model.user[users.clamp(min=0)], mean)
        q, bias = model.item[items], model.bias[items]
        levels: list[Tensor] = []
        for r, unit in enumerate(model.units):
            own = _block(unit, p, q) + bias[:, r]
            levels.append(link(levels[-1], own, kind=model.kind) if levels else own)
        return torch.stack(levels, 1)


def _block(unit: nn.Module, p: Tensor, q: Tensor) -> Tensor:
    """(B, N) a unit's output for every pair."""
    if isinstance(unit, GMF):
        return (p * unit.h) @ q.T
    if isinstance(unit, NeuMF):
        return _block(unit.gmf, p, q) + _block(unit.mlp, p, q)
    assert isinstance(unit, MLP)
    first = unit.tower.first_p(p)[:, None] + unit.tower.first_q(q)[None]
    out: Tensor = unit.tower.upper(first) @ unit.h
    return out


def export_onnx(run: Run, path: Path, *, by: By = "index") -> dict[str, object]:
    """Write the network, and beside it which id has which index; returns what was written.

    Raises UsageError for a model that is no NMTR, NmtrError where the exporter is not installed.
    """
    model = run.model
    if not isinstance(model, NMTR):
        raise UsageError(
            f"--onnx exports NMTR's scoring network, and {run.path} holds a {run.settings.model}; "
            "train one with --model nmtr-gmf, nmtr-mlp, nmtr-neumf or nmtr-staged"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file, such as model.onnx")
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch asks for it
    except ModuleNotFoundError as error:
        raise NmtrError(
            f"--onnx needs {error.name}; install it with `pip install 'nmtr[onnx]'`"
        ) from error
    made = _trace(Scorer(model.cpu().eval(), by), model.config.embedding)
    about = {
        "model": run.settings.model,
        "behaviors": ",".join(run.data.behaviors),
        "fingerprint": run.data.fingerprint(),
    }
    for name, value in about.items():
        made.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(made)
    with replace_file(path) as temporary:
        temporary.write_bytes(made.SerializeToString())
    users, items = (path.with_suffix(f".{each}.csv") for each in ("users", "items"))
    for file, vocabulary in ((users, run.data.users), (items, run.data.items)):
        with replace_file(file) as temporary:
            vocabulary.ids.alias("id").to_frame().with_row_index("index").write_csv(temporary)
    return {"onnx": str(path), "users": str(users), "items": str(items), "by": by, **about}


def _trace(scorer: Scorer, embedding: int) -> Any:
    """The network as ONNX's own message, sizes of users and items left open."""
    users = torch.zeros(3, dtype=torch.int64) if scorer.by == "index" else torch.zeros(3, embedding)
    name = "users" if scorer.by == "index" else "vectors"
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            program = torch.onnx.export(
                scorer,
                (users, torch.zeros(5, dtype=torch.int64)),
                input_names=[name, "items"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("B")}, {0: torch.export.Dim("N")}),
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto
