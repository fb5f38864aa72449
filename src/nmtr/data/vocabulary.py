"""Ids as they came, and the index that stands for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

HASHED_AT_ONCE = 2**16  # ids: 4 MB of digests


class Vocabulary:
    """An append-only list of distinct ids (int or string); an id's index is its position."""

    def __init__(self, ids: pl.Series) -> None:
        self.ids = ids

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        return cls(pl.read_parquet(path, use_statistics=False).get_column("id"))

    def save(self, path: Path) -> None:
        self.ids.rename("id").to_frame().write_parquet(path)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _table(self) -> pl.DataFrame:
        return pl.DataFrame({"id": self.ids, "index": np.arange(len(self.ids), dtype=np.int64)})

    def indices(self, ids: pl.Series | Sequence[object]) -> npt.NDArray[np.int64]:
        """The index of each id, -1 where it is unknown; text and integers are matched by value."""
        wanted = ids if isinstance(ids, pl.Series) else _series(ids)
        if wanted.dtype.is_float():  # 2.0 is the integer 2, 1.5 is no integer at all
            wanted = wanted.set(wanted != wanted.floor(), None)
        wanted = wanted.cast(self.ids.dtype, strict=False).rename("id")
        found = wanted.to_frame().join(self._table, on="id", how="left", maintain_order="left")
        return found.get_column("index").fill_null(-1).to_numpy(writable=True)

    def take(self, indices: npt.NDArray[np.integer]) -> pl.Series:
        """The ids at these indices."""
        return self.ids.gather(pl.Series(np.asarray(indices, np.int64)))


def _series(ids: Sequence[object]) -> pl.Series:
    values: list[Any] = [each.item() if isinstance(each, np.generic) else each for each in ids]
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in values)
    if whole and all(-(2**63) <= each < 2**63 for each in values):
        return pl.Series(values, dtype=pl.Int64)
    return pl.Series([None if each is None else str(each) for each in values], dtype=pl.String)


def hash_ids(ids: pl.Series) -> npt.NDArray[np.uint64]:
    """(n,) a hash of each id written as text: blake2b's first 63 bits, then its very last bit.

    Hold-outs are drawn by these, so that neither order nor later arrivals change them; the lowest
    bit tells the sealed half (PROTOCOLS: "blake2b of the user id, last bit 1").
    """
    found = np.empty(len(ids), np.uint64)
    for start in range(0, len(ids), HASHED_AT_ONCE):
        texts = ids[start : start + HASHED_AT_ONCE].cast(pl.String).to_list()
        digests = b"".join([blake2b(text.encode()).digest() for text in texts])
        parts = np.frombuffer(digests, np.dtype([("head", ">u8"), ("", "V55"), ("tail", "u1")]))
        head, tail = parts["head"].astype(np.uint64), parts["tail"].astype(np.uint64)
        found[start : start + HASHED_AT_ONCE] = (head & ~np.uint64(1)) | (tail & np.uint64(1))
    return found


def hash_text(text: str) -> int:
    """hash_ids of one id, given as text."""
    digest = blake2b(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") & ~1 | digest[-1] & 1


def mix(
    a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64], *, salt: int
) -> npt.NDArray[np.uint64]:
    """Hash of two hashes and a salt (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = a ^ (b * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64((salt * 0xD1342543DE82EF95) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
