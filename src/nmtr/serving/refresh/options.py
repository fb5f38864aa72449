"""What a refresh is told: kept in the home's refresh.toml, overridden by the command line."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from nmtr.data.events import ReadOptions
from nmtr.errors import UsageError
from nmtr.evaluation.metrics import parse
from nmtr.files import write_text
from nmtr.options import build, parse_assignments


@dataclass(frozen=True)
class Options:
    """All options of a refresh; text is taken as on the command line.

    behaviors: in order, the target last. user, item, behavior, time: column names of files. map,
    undo, unknown, malformed, columns, delimiter, time_unit, table, query: as in `nmtr prepare`.
    data: the folder of the service's store; store: a PostgreSQL URL instead. items: a catalogue,
    and attributes; users: attributes of users. model, set: as in `nmtr train`. window: days at the
    end of the log by which bundles are judged, and which train nothing. margin: the loss, as a
    share of the metric, that must be ruled out. least_users: fewer judge nothing. warm_epochs: of a
    training that starts from the last one. keep: bundles. threads, nice: what training may take.
    retire: days before an erasure's deadline from which on a refresh trains from nothing; forced:
    from which on what is served goes, whatever the verdict.

    The checks: bot_day, bot_minute: events of one user, above which it is suspected to be none.
    shift: a behaviour's events of a day are refused beyond so many times, or below one part in so
    many of, the usual. stale: days since the last event. churn, duplicates, ahead, late: shares
    of a day's events that are of ids never met before, that are there twice, that are later than
    now, that are older than the last refresh.
    """

    behaviors: tuple[str, ...] = ()
    user: str = ""
    item: str = ""
    behavior: str = ""
    time: str = ""
    map: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    unknown: str = "error"
    malformed: str = "error"
    columns: tuple[str, ...] = ()
    delimiter: str = ""
    time_unit: str = ""
    table: str = ""
    query: str = ""
    repurchase: bool = False
    data: str = ""
    store: str = ""
    key_file: str = ""
    items: str = ""
    users: str = ""
    model: str = "nmtr-gmf"
    set: tuple[str, ...] = ()
    window: float = 1.0
    metric: str = "ndcg@100"
    margin: float = 0.01
    least_users: int = 100
    warm_epochs: int = 3
    keep: int = 7
    threads: int = 1
    nice: int = 19
    retire: float = 7.0
    forced: float = 2.0
    bot_day: int = 1000
    bot_minute: int = 60
    shift: float = 2.0
    stale: float = 2.0
    churn: float = 0.5
    duplicates: float = 0.2
    ahead: float = 0.001
    late: float = 0.2

    def __post_init__(self) -> None:
        if len(self.behaviors) < 1:
            raise ValueError(
                "name the behaviours at the first refresh, the target last: "
                "--behaviors view,cart,buy"
            )
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {value}")
        if not (self.window > 0 and self.stale > 0):
            raise ValueError(
                f"expected days above 0 for window and stale, got {self.window} and {self.stale}"
            )
        if not 0 <= self.forced <= self.retire:
            raise ValueError(
                f"expected 0 <= forced <= retire (days), got {self.forced} and {self.retire}"
            )
        parse(self.metric)
        self.reading()

    def reading(self, *, file: bool = True) -> ReadOptions:
        """How events are read, of a file or of the store, whose columns have the usual names."""
        found = ReadOptions(
            rename=parse_assignments(self.map), undo=parse_assignments(self.undo),
            behaviors=self.behaviors, unknown=self.unknown,
        )  # fmt: skip
        if not file:
            return found
        own: dict[str, Any] = {name: getattr(self, name) or None for name in OF_FILES}
        return replace(found, malformed=self.malformed, **own)


OF_FILES = (
    "user", "item", "behavior", "time", "columns", "delimiter", "time_unit", "table", "query",
)  # fmt: skip
BOUNDS: dict[str, tuple[float, float]] = {
    "margin": (0, 1), "least_users": (2, math.inf), "warm_epochs": (1, 10_000), "keep": (2, 10_000),
    "threads": (1, 1024), "nice": (0, 19), "bot_day": (1, math.inf), "bot_minute": (1, math.inf),
    "shift": (1, math.inf), "churn": (0, 1), "duplicates": (0, 1), "ahead": (0, 1), "late": (0, 1),
}  # fmt: skip


def read_options(file: Path, given: Mapping[str, Any]) -> Options:
    """Options of the home's file, if it is there, under those given; UsageError for wrong ones."""
    found: dict[str, Any] = {}
    if file.exists():
        try:
            found = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read as TOML ({error})") from error
    where = "refresh" if given or not file.exists() else str(file)
    return build(Options, {**found, **given}, where=where)


def write_options(file: Path, options: Options) -> None:
    """Keep the options for the nights to come, but for a store's URL, which may hold a password."""
    found = {name: value for name, value in asdict(options).items() if value not in ("", ())}
    found.pop("store", None)
    write_text(file, tomli_w.dumps(found))
