"""Make a bundle of a run: gather its parts and write them to one file."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomli_w
import torch

from nmtr import __version__
from nmtr.data.audit import audit
from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Records
from nmtr.errors import UsageError
from nmtr.files import replace_file
from nmtr.serving.archive import Part, write_archive
from nmtr.serving.bundle import FORMAT, SCHEMA
from nmtr.training.folder import WEIGHTS, Run
from nmtr.training.weights import write_tensors

DAY = 86_400_000  # milliseconds
RECENT = 28.0  # days


def write_bundle(
    run: Run,
    out: Path,
    *,
    catalogue: pl.DataFrame | None = None,
    trained: Records | None = None,
    now: datetime | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Bundle a run into the file `out`, whole or not at all; returns the bundle's fingerprint.

    catalogue: N rows of attributes (catalogue.read_catalogue). trained: the records that training
    saw, where the others are to be folded in when the bundle is served. more: for the manifest.
    Raises UsageError where `out` is a folder.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file for the bundle, such as model.nmtr")
    with tempfile.TemporaryDirectory() as folder:
        weights = run.path / WEIGHTS if run.path else Path(folder) / WEIGHTS
        if not run.path:
            about = {"epochs": run.epochs, "version": __version__}
            write_tensors(weights, run.model.state_dict(), about)
        parts = _parts(run, weights, catalogue)
        if trained:
            parts |= _held(run.data.records(), trained)
        about = _about(run, now or datetime.now(UTC)) | dict(more or {})
        with replace_file(out) as temporary:
            write_archive(temporary, parts, about)
    return str(about["fingerprint"])


def fingerprint(run: Run) -> str:
    """A short hash of settings, data and weights: what tells one bundle's model from another's."""
    total = sha256(_config(run))
    total.update(run.data.fingerprint().encode())
    for name, tensor in sorted(run.model.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def _config(run: Run) -> bytes:
    return tomli_w.dumps({"nmtr": __version__} | asdict(run.settings)).encode()


def _about(run: Run, now: datetime) -> dict[str, Any]:
    data = run.data
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "nmtr": __version__,
        "created": now.isoformat(timespec="seconds"),
        "fingerprint": fingerprint(run),
        "data": data.fingerprint(),
        "model": run.settings.model,
        "protocol": run.settings.protocol,
        "epochs": run.epochs,
        "behaviors": list(data.behaviors),
        "repurchase": data.repurchase,
        "users": data.n_users,
        "items": data.n_items,
        "last_event": int(np.max(data.time)) if data.time is not None else None,
        "trained_before": data.holdout["cut"] if data.holdout["rule"] == "time" else None,
        "events_per_day": _rates(data),
    }


def _rates(data: Interactions) -> dict[str, float] | None:
    """Events a day of each behaviour, in the last four weeks of the log."""
    if data.time is None:
        return None
    time, code = np.asarray(data.time), np.asarray(data.code)
    last = int(time.max())
    days = min(RECENT, max(1.0, (last - int(time.min())) / DAY))
    counts = np.bincount(
        code[(code >= 0) & (time > last - days * DAY)], minlength=len(data.behaviors)
    )
    return {name: float(n / days) for name, n in zip(data.behaviors, counts, strict=True)}


def _held(records: Records, trained: Records) -> dict[str, Part]:
    """Of each behaviour's records, which training did not see."""
    return {
        f"held_{r}.npy": ~known.contains(each.row_of_each(), each.indices)
        for r, (each, known) in enumerate(zip(records.sets, trained.sets, strict=True))
    }


def _parts(run: Run, weights: Path, catalogue: pl.DataFrame | None) -> dict[str, Part]:
    data, records = run.data, run.data.records(timed=True)
    trained = run.trained_users() if run.model.trained else np.ones(data.n_users, np.bool_)
    parts: dict[str, Part] = {
        "config.toml": _config(run),
        "reports.json": json.dumps(_reports(run)).encode(),
        WEIGHTS: weights,
        "users.parquet": _parquet(data.users.ids.rename("id").to_frame()),
        "items.parquet": _parquet(data.items.ids.rename("id").to_frame()),
        "user_hash.npy": data.user_hash,
        "item_hash.npy": data.item_hash,
        "user_order.npy": np.argsort(data.user_hash).astype(np.int32),
        "item_order.npy": np.argsort(data.item_hash).astype(np.int32),
        "trained.npy": trained,
        "counts.npy": np.stack([each.column_counts() for each in records.sets]),
    }
    for r, each in enumerate(records.sets):
        parts |= set_parts(r, each if run.model.timed else replace(each, at=None))
    if records.target.at is not None:
        parts["target_time.npy"] = records.target.at
    if run.calibration:
        parts["calibration.json"] = json.dumps(run.calibration.to_json()).encode()
    if catalogue is not None:
        parts["catalogue.parquet"] = _parquet(catalogue)
    return parts


def set_parts(r: int, pairs: CSR) -> dict[str, Part]:
    """A behaviour's records, with their times if a model looks at those."""
    parts: dict[str, Part] = {f"indptr_{r}.npy": pairs.indptr, f"item_{r}.npy": pairs.indices}
    return parts if pairs.at is None else parts | {f"time_{r}.npy": pairs.at}


def _parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def _reports(run: Run) -> dict[str, Any]:
    """What is known of how good the model is, and of its data."""
    found: dict[str, Any] = {"reports": {}, "epochs": []}
    if run.path:
        for file in sorted(run.path.glob("report-*.json")):
            name = file.stem.removeprefix("report-")
            found["reports"][name] = json.loads(file.read_text(encoding="utf-8"))
        metrics = run.path / "metrics.jsonl"
        if metrics.exists():
            lines = metrics.read_text(encoding="utf-8").splitlines()
            found["epochs"] = [json.loads(each) for each in lines]
    of_data = audit(run.data)
    verdict = {"verdicts": of_data.verdicts, "protocol": of_data.protocol, "why": of_data.why}
    return found | {"audit": verdict}
