"""A bundle: one file with all that serving a model needs; docs/bundle.md lists its parts.

It needs neither the run's folder nor the data set. Opening it reads the small parts; the others
are memory-mapped. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from nmtr import __version__
from nmtr.data.records import CSR, Records
from nmtr.data.vocabulary import Vocabulary
from nmtr.errors import DamagedError, NmtrError, UsageError
from nmtr.evaluation.calibration import Calibration
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.serving.archive import Archive
from nmtr.serving.lookup import Lookup
from nmtr.training.folder import WEIGHTS
from nmtr.training.settings import Settings, parse_settings

FORMAT = "nmtr-bundle"
SCHEMA = 1
CHECKED_ON_OPEN = 256 * 2**20  # bytes; above this, opening compares sizes only; --check reads all
LARGE = 256 * 2**20  # bytes of weights that are not first drawn and then replaced


@dataclass(frozen=True)
class BundledLog:
    """What users did, as a bundle holds it: an Interactions without its single events."""

    behaviors: tuple[str, ...]
    repurchase: bool
    users: Vocabulary
    items: Vocabulary
    user_hash: npt.NDArray[np.uint64]
    item_hash: npt.NDArray[np.uint64]
    sets: tuple[CSR, ...]

    @property
    def n_users(self) -> int:
        return len(self.user_hash)

    @property
    def n_items(self) -> int:
        return len(self.item_hash)

    def records(self, *, timed: bool = False) -> Records:
        """As Interactions.records; with times where the bundle keeps them, whatever is asked."""
        return Records(self.behaviors, self.sets)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    target_time: (target pairs,) milliseconds since 1970 UTC of each pair's last target event, if
    the log has times. catalogue: N rows, the items' attributes.
    """

    path: Path
    manifest: Mapping[str, Any]
    settings: Settings
    data: BundledLog
    model: Model
    calibration: Calibration | None
    catalogue: pl.DataFrame | None
    target_time: npt.NDArray[np.int64] | None
    archive: Archive

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    def trained_users(self) -> npt.NDArray[np.bool_]:
        """(M,) which users have a training record."""
        found: npt.NDArray[np.bool_] = self.archive.array("trained.npy")
        return found

    def trained_records(self) -> Records | None:
        """The records that the model was trained on, where the bundle tells them from others."""
        if "held_0.npy" not in self.archive:
            return None
        sets = []
        for r, each in enumerate(self.data.sets):
            seen = np.flatnonzero(~self.archive.array(f"held_{r}.npy"))
            at = None if each.at is None else each.at[seen]
            sets.append(CSR.from_keys(each.keys()[seen], each.n_rows, each.n_columns, at))
        return Records(self.data.behaviors, tuple(sets))

    def counts(self) -> npt.NDArray[np.int64]:
        """(R, N) users with a record of each item, per behaviour."""
        found: npt.NDArray[np.int64] = self.archive.array("counts.npy")
        return found

    @cached_property
    def reports(self) -> Mapping[str, Any]:
        """`reports` of the run by protocol, its `epochs`, and the `audit` of its data."""
        found: Mapping[str, Any] = self.archive.json("reports.json")
        return found

    def lookups(self) -> tuple[Lookup, Lookup]:
        """Users by id, and items."""
        orders = (self.archive.array(f"{each}_order.npy") for each in ("user", "item"))
        data, (users, items) = self.data, orders
        return Lookup(data.users, data.user_hash, users), Lookup(data.items, data.item_hash, items)


def open_bundle(path: Path) -> Bundle:
    """Open a bundle; large parts stay on disk until they are read.

    Raises UsageError if there is none at `path`, DamagedError, with the part and the reason, if it
    is damaged or of a version that this nmtr does not read.
    """
    archive = _archive(path)
    archive.check(contents=archive.size <= CHECKED_ON_OPEN)
    try:
        return _open(archive)
    except DamagedError:
        raise
    except (NmtrError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: its parts do not fit each other ({error})") from error


def check_bundle(path: Path) -> Mapping[str, Any]:
    """Read and verify every part; returns the manifest. Raises as open_bundle does."""
    archive = _archive(path)
    archive.check(contents=True)
    return open_bundle(path).manifest


def _archive(path: Path) -> Archive:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; make a bundle with `nmtr bundle {path} --out FILE`")
    if not path.exists():
        raise UsageError(f"{path}: no such bundle; make one with `nmtr bundle RUN --out {path}`")
    archive = Archive(path)
    form, schema = (archive.manifest.get(each) for each in ("format", "schema"))
    if form != FORMAT:
        raise DamagedError(f"{path} is no bundle: its format is {form!r}, expected '{FORMAT}'")
    if schema != SCHEMA:
        wrote = archive.manifest.get("nmtr")
        raise DamagedError(
            f"{path} has schema {schema}, written by nmtr {wrote}; this nmtr {__version__} reads "
            f"{SCHEMA}: install the nmtr that wrote it, or make the bundle again"
        )
    return archive


def _open(archive: Archive) -> Bundle:
    manifest = archive.manifest
    users, items = (Vocabulary(_frame(archive, each)["id"]) for each in ("users", "items"))
    n_items = len(items)
    sets = tuple(_pairs(archive, r, n_items) for r in range(len(manifest["behaviors"])))
    data = BundledLog(
        tuple(manifest["behaviors"]), manifest["repurchase"], users, items,
        archive.array("user_hash.npy"), archive.array("item_hash.npy"), sets,
    )  # fmt: skip
    lengths = [len(users), data.n_users, *(each.n_rows for each in sets), manifest["users"]]
    if len(set(lengths)) > 1 or not n_items == data.n_items == manifest["items"]:
        raise ValueError(f"different numbers of users {lengths} or items")
    settings, _ = parse_settings(str(archive.part("config.toml"), "utf-8"), where="config.toml")
    return Bundle(
        archive.path, manifest, settings, data, _model(archive, settings, data),
        Calibration.from_json(archive.json("calibration.json"))
        if "calibration.json" in archive else None,
        _frame(archive, "catalogue") if "catalogue.parquet" in archive else None,
        archive.array("target_time.npy") if "target_time.npy" in archive else None,
        archive,
    )  # fmt: skip


def _pairs(archive: Archive, r: int, n_items: int) -> CSR:
    time = f"time_{r}.npy"  # where the model looks at times
    indptr, items = archive.array(f"indptr_{r}.npy"), archive.array(f"item_{r}.npy")
    return CSR(indptr, items, n_items, archive.array(time) if time in archive else None)


def _frame(archive: Archive, name: str) -> pl.DataFrame:
    return pl.read_parquet(bytes(archive.part(f"{name}.parquet")), use_statistics=False)


def _model(archive: Archive, settings: Settings, data: BundledLog) -> Model:
    """The model with its weights as they lie in the file; it is not to be trained further."""
    shape = Shape(data.n_users, data.n_items, data.behaviors)
    model = None
    if archive.manifest["parts"][WEIGHTS]["bytes"] > LARGE:
        with torch.device("meta"):  # no memory or time for weights, but two seconds to be loaded
            model = make(settings.model, settings.options, shape)
    if model is None or _has_more(model):
        with torch.random.fork_rng(devices=[]):
            model = make(settings.model, settings.options, shape)
    model.load_state_dict(archive.tensors(WEIGHTS), assign=True)
    return model.eval().requires_grad_(False)


def _has_more(model: Model) -> bool:
    """Whether a model on no device has values that are not among its weights."""
    stated = model.state_dict()
    return any(each.is_meta and name not in stated for name, each in model.named_buffers())
