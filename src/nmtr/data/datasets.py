"""Public multi-behaviour data sets by name: where they come from, and one layout for all of them.

Nothing is redistributed here: `get` fetches the files from the repositories of the papers that
published them, checks each against the sha256 below, and writes two Parquet files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nmtr.data import download, unpickle
from nmtr.errors import DamagedError, NmtrError, UsageError
from nmtr.options import unknown

BASE_URL = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """One published file: what it holds, how to read it, where it is, and its checksum."""

    part: str  # the table it belongs to: "events" or "test"
    behavior: str
    format: str  # a key of READERS
    repository: str  # OWNER/REPO
    commit: str
    path: str
    sha256: str

    @property
    def address(self) -> str:
        return f"{self.repository}/{self.commit}/{self.path}"


@dataclass(frozen=True)
class DataSet:
    """A named data set of M users and N items, with times where the values of its matrices are."""

    users: int
    items: int
    timed: bool
    sources: tuple[Source, ...]


_MBGMN = ("akaxlh/MB-GMN", "a45e7f7eca090cee1608d667d9430eddc2a1d739")
_GHCF = ("chenchongthu/GHCF", "5ca2d693410c90721a980bab609bfab140fa30b1")
_MBCGCN = ("SS-00-SS/MBCGCN", "931f9c103817cdfa280353c506f4e3cb08306a1c")
_SSLREC = ("HKUDS/SSLRec", "7597c31ce3f78c7497918d886b90df6d4d02cad5")
_ROCKET = "datasets/multi_behavior/retail_rocket"

# fmt: off
CATALOGUE: Mapping[str, DataSet] = {
    "beibei": DataSet(users=21_716, items=7_977, timed=False, sources=(
        Source("events", "view", "pickle", *_MBGMN, "Datasets/beibei/trn_pv",
               "43d3e8b9ec1b54995c10570d888f9d062d9af699f42c957f39fc3dc318d91b60"),
        Source("events", "cart", "pickle", *_MBGMN, "Datasets/beibei/trn_cart",
               "04cbb6c0b6c232ced06b8fea7ac7b28fd07af9a9a2c3f70c9df5c6186c8da890"),
        Source("events", "buy", "pickle", *_MBGMN, "Datasets/beibei/trn_buy",
               "5c38fbeb2cd2c738a2a0f67de0803d94cb90be1c2ce9abe5f49f03c7a3a72a5b"),
        Source("test", "buy", "lists", *_GHCF, "Data/Beibei/test.txt",
               "84709478e3b07aa7c20e39fbcd22e0ca57b485e16ed1338294cf8b9e411eef18"),
    )),
    # The test.txt of cart and view are training records, one per user: only buys are held out.
    "tmall": DataSet(users=15_449, items=11_953, timed=False, sources=(
        Source("events", "view", "adjacency", *_MBCGCN, "Data/view/s_adj_mat.npz",
               "93eb50aa5e09be220925d9f97f51a5247be5e5167e9e102af73fdffb0f84fd48"),
        Source("events", "view", "lists", *_MBCGCN, "Data/view/test.txt",
               "924648c230c6fdf2cbe7d02088d2df8393c76b877cac921cc235b1d7bcecf66b"),
        Source("events", "cart", "lists", *_MBCGCN, "Data/cart/train.txt",
               "481a048118ad3837208534a4367c2f20f290cd2a6f9297a621897655b62f2dbc"),
        Source("events", "cart", "lists", *_MBCGCN, "Data/cart/test.txt",
               "629f9fa78ed2a0e1066765175eafa67cda94410162aabfc7c6d2b66ecdd38ad1"),
        Source("events", "buy", "lists", *_MBCGCN, "Data/buy/train.txt",
               "4d8619e44b5292736daff25b18ff9b295893e7521e3d79faff4a62d48dd80e6e"),
        Source("test", "buy", "lists", *_MBCGCN, "Data/buy/test.txt",
               "aa643ff3e3f072238740b684277e65ee2eaeecdcd3c5ec1134756d4adfb1672b"),
    )),
    "retailrocket": DataSet(users=2_174, items=30_113, timed=True, sources=(
        Source("events", "view", "pickle", *_SSLREC, f"{_ROCKET}/train_mat_view.pkl",
               "a2cc3b40b93cc65c92cd92802d10e0410dfd0d9b9ae295e80a8e738958f18419"),
        Source("events", "cart", "pickle", *_SSLREC, f"{_ROCKET}/train_mat_cart.pkl",
               "354822257ad20abee92fc9970755a70ad6725328e3318be62419244aecc45616"),
        Source("events", "buy", "pickle", *_SSLREC, f"{_ROCKET}/train_mat_buy.pkl",
               "7a82e52e84199fa5c038df73bb5aacbe82d675663cbf404110050f676b45ee3f"),
        Source("test", "buy", "pickle", *_SSLREC, f"{_ROCKET}/test_mat.pkl",
               "9bdb5afddca322712f4b0c3a1a2ed981eb4241c4c04da1ab871e7ce1ce424502"),
    )),
}
# fmt: on

_BY_HAND = {
    "otto": (
        "OTTO needs a Kaggle account: log in, download otto-recsys-train.jsonl from "
        "https://www.kaggle.com/datasets/otto/recsys-dataset, then run\n"
        "  nmtr prepare otto-recsys-train.jsonl --behaviors clicks,carts,orders --out DIR"
    ),
    "retailrocket-raw": (
        "The raw RetailRocket log needs a Kaggle account: log in, download events.csv from "
        "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset, then run\n"
        "  nmtr prepare events.csv --behaviors view,cart,buy "
        "--map addtocart=cart,transaction=buy --out DIR"
    ),
}


def get(
    name: str,
    out: Path,
    *,
    base_url: str | None = None,
    progress: download.Progress | None = None,
    catalogue: Mapping[str, DataSet] = CATALOGUE,
) -> Path:
    """Download the data set `name` and write `events.parquet` and `test.parquet` to `out`.

    The files as published stay in `out`/downloads, so that calling again fetches only what is
    missing. Columns: user_id, item_id (int32), behavior (categorical), and timestamp (int64 unix
    seconds) in the events of a set that has times. Returns `out`.

    Raises UsageError for an unknown name or one that needs an account (saying how to get it),
    DamagedError for a file that differs from its checksum or holds something else than published,
    NmtrError where a download fails.
    """
    if name in _BY_HAND:
        raise UsageError(_BY_HAND[name])
    if name not in catalogue:
        raise unknown("data set", name, [*catalogue, *_BY_HAND])
    data = catalogue[name]
    base = (base_url or BASE_URL).rstrip("/")
    # All files are fetched before any is read: what can fail for the network fails first.
    files = [
        download.fetch(
            f"{base}/{source.address}",
            out / "downloads" / source.path,
            sha256=source.sha256,
            progress=progress,
        )
        for source in data.sources
    ]
    tables: dict[str, dict[str, list[pl.DataFrame]]] = {"events": {}, "test": {}}
    for source, file in zip(data.sources, files, strict=True):
        behaviors = tables[source.part]
        behaviors.setdefault(source.behavior, []).append(_table(file, source, data))
    for part, behaviors in tables.items():
        # A record that two files share counts once; within a behaviour the ids give the order.
        table = pl.concat(pl.concat(b).unique().sort(pl.all()) for b in behaviors.values())
        _write(table.with_columns(pl.col("behavior").cast(pl.Categorical)), out / f"{part}.parquet")
    return out


def _table(file: Path, source: Source, data: DataSet) -> pl.DataFrame:
    users, items, values = READERS[source.format](file, data.users)
    for what, ids, size in (("users", users, data.users), ("items", items, data.items)):
        if len(ids) and not (ids.min() >= 0 and ids.max() < size):
            raise DamagedError(
                f"{file}: expected {what} 0 to {size - 1}, got {ids.min()} to {ids.max()}"
            )
    table = pl.DataFrame(
        {"user_id": users, "item_id": items}, schema={"user_id": pl.Int32, "item_id": pl.Int32}
    ).with_columns(behavior=pl.lit(source.behavior))
    if data.timed and source.part == "events":
        table = table.with_columns(timestamp=pl.Series(_seconds(file, values), dtype=pl.Int64))
    return table


def _seconds(file: Path, values: NDArray[np.generic]) -> NDArray[np.int64]:
    times = values.astype(np.float64)  # exact for whole numbers below 2**53
    if not (np.isfinite(times) & (times > 0)).all():
        raise DamagedError(f"{file}: expected unix times as values, got {times.min()} among them")
    # Seconds reach 1e11 in the year 5138, milliseconds did in 1973.
    return np.where(times >= 1e11, times // 1000, times).astype(np.int64)


Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.generic]]  # users, items, values


def _read_pickle(file: Path, _users: int) -> Columns:
    rows, columns, values, _ = unpickle.read_pickle(file)
    stored = values != 0  # an explicit zero is no record
    return rows[stored], columns[stored], values[stored]


def _read_adjacency(file: Path, users: int) -> Columns:
    """Read the upper right block, user x item, of a (users + items) square matrix."""
    rows, columns, values, shape = unpickle.read_npz(file)
    stored = values != 0
    rows, columns, values = rows[stored], columns[stored], values[stored]
    if shape[0] != shape[1] or ((rows < users) == (columns < users)).any():
        raise DamagedError(
            f"{file}: expected a square matrix with links only between its first {users} rows "
            f"(users) and the rest (items), got shape {shape} or a link within one of them"
        )
    block = rows < users
    return rows[block], columns[block] - users, values[block]


def _read_lists(file: Path, _users: int) -> Columns:
    """Read a text with a user and their items on each line; a user may have none."""
    users: list[int] = []
    items: list[int] = []
    with file.open(encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                numbers = [int(np.int32(field)) for field in line.split()]
            except (ValueError, OverflowError):
                raise DamagedError(
                    f"{file} line {number}: expected whole numbers, got {line[:80]!r}"
                ) from None
            users.extend(numbers[:1] * (len(numbers) - 1))
            items.extend(numbers[1:])
    return np.array(users, np.int64), np.array(items, np.int64), np.ones(len(users), np.int8)


READERS: Mapping[str, Callable[[Path, int], Columns]] = {
    "pickle": _read_pickle,
    "adjacency": _read_adjacency,
    "lists": _read_lists,
}


def _write(table: pl.DataFrame, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        table.write_parquet(temporary)
        temporary.replace(path)
    except OSError as error:
        raise NmtrError(
            f"{path}: cannot be written ({error}); make room or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
