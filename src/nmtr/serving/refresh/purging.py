"""Erased persons leave what a home holds: their ids, their records and their own weights."""

from __future__ import annotations

import hashlib
import io
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from nmtr.data.interactions import load
from nmtr.files import replace_file
from nmtr.serving.archive import MANIFEST, Part, write_archive
from nmtr.serving.bundle import Bundle, open_bundle
from nmtr.serving.bundling import set_parts
from nmtr.serving.refresh.gathering import honoured
from nmtr.serving.refresh.home import Home
from nmtr.serving.refresh.retiring import OVERDUE
from nmtr.serving.store import Store
from nmtr.training.folder import WEIGHTS
from nmtr.training.warm import axes
from nmtr.training.weights import write_tensors


def purge(home: Home, store: Store) -> int:
    """Rewrite every file of a home that knows an erased person; how many there were.

    A refresh under way that knows one is given up.
    """
    if not store.erasures():
        return 0
    count = sum(_purge_frame(each, store) for each in home.frames())
    for each in (*sorted(home.bundles.glob("*.nmtr")), *home.night.glob("*.nmtr")):
        count += purge_bundle(each, store)
    data = home.night / "data"
    if (data / MANIFEST).exists() and not _keeps(load(data).users.ids, store).all():
        home.clear()
        count += 1
    return count


def purge_bundle(path: Path, store: Store) -> bool:
    """Take erased persons out of a bundle, and whether any were in it."""
    bundle = open_bundle(path)
    keep = _keeps(bundle.data.users.ids, store)
    if keep.all():
        return False
    write_without(bundle, keep, path, deadline=_deadline(bundle, store))
    return True


def write_without(
    bundle: Bundle, keep: npt.NDArray[np.bool_], out: Path, *, deadline: int | None = None
) -> None:
    """Write a bundle less the users who are not to be kept, (M,).

    What it learned of items stays, and so do the answers to everyone else but for a stranger's,
    which may rest on the mean of all users.
    """
    rows = np.flatnonzero(keep)
    archive, data = bundle.archive, bundle.data
    hashes = np.asarray(data.user_hash)[rows]
    sets = [each.take(rows) for each in data.sets]
    parts: dict[str, Part] = {name: bytes(archive.part(name)) for name in archive.manifest["parts"]}
    parts |= {
        "users.parquet": _parquet(data.users.take(rows).rename("id").to_frame()),
        "user_hash.npy": hashes,
        "user_order.npy": np.argsort(hashes).astype(np.int32),
        "trained.npy": bundle.trained_users()[rows],
        "counts.npy": np.stack([each.column_counts() for each in sets]),
    }
    pairs = [keep[each.row_of_each()] for each in data.sets]
    for r, each in enumerate(sets):
        parts |= set_parts(r, each)
        if f"held_{r}.npy" in archive:
            parts[f"held_{r}.npy"] = archive.array(f"held_{r}.npy")[pairs[r]]
    if bundle.target_time is not None:
        parts["target_time.npy"] = bundle.target_time[pairs[-1]]
    manifest = {
        name: each for name, each in archive.manifest.items() if name not in ("parts", "sha256")
    }
    print_ = hashlib.sha256(f"{bundle.fingerprint} less {len(keep) - len(rows)}".encode())
    print_.update(hashes.tobytes())
    manifest |= {"users": len(rows), "fingerprint": print_.hexdigest()[:16]}
    if deadline is not None:
        manifest[OVERDUE] = min(deadline, manifest.get(OVERDUE, deadline))
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".", suffix=".tmp") as folder:
        parts[WEIGHTS] = _weights(bundle, rows, Path(folder))
        with replace_file(out) as temporary:
            write_archive(temporary, parts, manifest)


def _weights(bundle: Bundle, rows: npt.NDArray[np.int64], folder: Path) -> Path:
    of, chosen = axes(bundle.settings, bundle.data.behaviors), torch.from_numpy(rows)
    tensors = dict(bundle.model.state_dict())
    for name, tensor in tensors.items():
        if "user" in of[name]:
            tensors[name] = tensor.index_select(of[name].index("user"), chosen)
    about = {"epochs": bundle.manifest["epochs"], "version": bundle.manifest["nmtr"]}
    write_tensors(folder / WEIGHTS, tensors, about)
    return folder / WEIGHTS


def _purge_frame(path: Path, store: Store) -> bool:
    frame = pl.read_parquet(path)
    left = honoured(store, frame)
    if left.height == frame.height:
        return False
    with replace_file(path) as temporary:
        left.write_parquet(temporary)
    return True


def _keeps(ids: pl.Series, store: Store) -> npt.NDArray[np.bool_]:
    """(M,) who was not erased."""
    frame = pl.DataFrame({"user_id": ids}).with_row_index()
    keep = np.zeros(len(ids), np.bool_)
    keep[honoured(store, frame)["index"].to_numpy()] = True
    return keep


def _deadline(bundle: Bundle, store: Store) -> int:
    """By when the bundle must go: that of the first erasure since it was made, in milliseconds."""
    made = datetime.fromisoformat(bundle.manifest["created"]).timestamp() * 1000
    found = [each.deadline for each in store.erasures() if each.at // 1000 >= made]
    return min(found or [each.deadline for each in store.erasures()]) // 1000


def _parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()
