"""The logs: prepared for nmtr, and as target pairs for the peers; each written once."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.places import ROOT, WORK
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import load
from nmtr.data.prepare import prepare
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.data.split import split
from nmtr.errors import UsageError

BEHAVIORS = ("view", "cart", "buy")
FOLDER = WORK / "data"
TABLES = (100_000, 20_000)  # users and items of every simulated log, whatever its events


@dataclass(frozen=True)
class Log:
    """prepared: nmtr's folder; pairs: the target alone, as an .npz of users, items, held_users,
    held_items, n_users and n_items.
    """

    prepared: Path
    pairs: Path


def beibei() -> Log:
    """Beibei, its validation held out; the test is not read."""
    return Log(FOLDER / "beibei", FOLDER / "beibei.npz")


def simulated(events: int) -> Log:
    """A shop's log of about so many events."""
    return Log(FOLDER / f"simulated-{events}", FOLDER / f"simulated-{events}.npz")


def ensure(path: Path) -> None:
    """Make the log that a path of `beibei` or `simulated` belongs to, unless it is there."""
    prepared, pairs = path.with_suffix(""), path.with_suffix(".npz")
    name, _, events = prepared.name.partition("-")
    if not prepared.exists():
        if events:
            _prepare_simulated(prepared, int(events))
        else:
            _prepare_public(prepared, name)
    if not pairs.exists():
        _write_pairs(prepared, pairs, held_out=not events)


def _prepare_public(out: Path, name: str) -> None:
    source = Path(os.environ.get("NMTR_DATA", ROOT.parent / "shared" / "data")) / name
    if not source.exists():
        raise UsageError(f"{source} is not there; name the folder above it in NMTR_DATA")
    options = ReadOptions(behaviors=BEHAVIORS)
    log = read_events([source / "events.parquet"], options)
    held = source / "test.parquet"
    prepare(log, behaviors=BEHAVIORS, holdout=held, options=options).save(out)


def _prepare_simulated(out: Path, events: int) -> None:
    print(f"simulating {events:,} events", flush=True)
    raw = out.with_name(f"{out.name}-log")
    if not raw.exists():
        users, items = TABLES
        simulate(SimulatorConfig(users=users, items=items, events=events), raw)
    options = ReadOptions(behaviors=BEHAVIORS)
    log = read_events([raw / "events-*.parquet"], options)
    prepare(log, behaviors=BEHAVIORS, options=options).save(out)
    shutil.rmtree(raw)


def _write_pairs(prepared: Path, out: Path, *, held_out: bool) -> None:
    """The target's pairs; where nothing is held out, one stands in, as RecBole wants someone."""
    log = load(prepared)
    if held_out:
        parts = split(log, "as-published", fold="validation")
        target, truth = parts.train.target, parts.evaluation.truth
        held = parts.evaluation.users[truth.row_of_each()], truth.indices
    else:
        target = log.records().target
        held = target.row_of_each()[:1], target.indices[:1]
    np.savez(
        out,
        users=target.row_of_each(),
        items=target.indices,
        n_users=target.n_rows,
        n_items=target.n_columns,
        held_users=held[0],
        held_items=held[1],
    )
