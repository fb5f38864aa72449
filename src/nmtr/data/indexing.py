"""Ids to indices in order of first appearance, block after block, in one growing hash table."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
SEEDS = (1, 2)  # of the two hashes that stand for a text: 128 bits, so that no two ids share them
LEAST = 1024  # places of the smallest table
FULLEST = 0.6


class Indexer:
    """Numbers distinct ids (Int64 or String) from 0 on; an id's number never changes.

    Once a block of them is text, all are: 7 and "7" are one id.
    """

    def __init__(self, ids: pl.Series | None = None) -> None:
        """ids: distinct ones that are known already; they are the first numbers."""
        self._parts: list[pl.Series] = []
        self._known = 0  # how many ids were given, or taken with `new`
        self._reset(LEAST)
        if ids is not None and len(ids):
            self.index(ids)
            self._known = self._size

    def __len__(self) -> int:
        return self._size

    @property
    def ids(self) -> pl.Series:
        """All ids by their number."""
        if not self._parts:
            return pl.Series("id", [], pl.Int64)
        return pl.concat(self._parts, rechunk=True).rename("id")

    @property
    def new(self) -> pl.Series:
        """The ids that were not given at the start."""
        return self.ids[self._known :]

    def index(self, ids: pl.Series) -> Places:
        """(n,) the number of each id, those met first numbered in their order."""
        if self._parts and self._parts[0].dtype != ids.dtype:
            ids = ids.cast(pl.String)
            if self._parts[0].dtype != pl.String:
                self._to_text()
        head, tail = _words(ids)
        out = np.empty(len(ids), np.int32)
        start = 0
        while start < len(ids):
            stop = min(len(ids), start + max(LEAST, self._size))
            self._make_room(self._size + stop - start)
            firsts = np.empty(stop - start, np.int64)
            found = number(
                head[start:stop], tail[start:stop], self._table, self._head, self._tail,
                self._size, out[start:stop], firsts,
            )  # fmt: skip
            if found:
                self._parts.append(ids.gather(pl.Series(firsts[:found] + start)))
                self._size += found
            start = stop
        return out

    def _reset(self, places: int) -> None:
        self._size = 0
        self._table = np.full(places, -1, np.int32)
        room = int(places * FULLEST)
        self._head, self._tail = np.empty(room, np.uint64), np.empty(room, np.uint64)

    def _make_room(self, size: int) -> None:
        places = len(self._table)
        if size <= len(self._head):
            return
        while int(places * FULLEST) < size:
            places *= 2
        head, tail = self._head[: self._size], self._tail[: self._size]
        self._table = np.full(places, -1, np.int32)
        room = int(places * FULLEST)
        self._head, self._tail = np.empty(room, np.uint64), np.empty(room, np.uint64)
        none = np.empty(len(head), np.int64)
        number(
            head, tail, self._table, self._head, self._tail, 0, np.empty_like(none, np.int32), none
        )

    def _to_text(self) -> None:
        ids = self.ids.cast(pl.String)
        self._parts = []
        self._reset(LEAST)
        self.index(ids)


def _words(ids: pl.Series) -> tuple[Words, Words]:
    """Two words for each id that tell it from any other."""
    if ids.dtype == pl.String:
        head, tail = (ids.hash(seed).to_numpy() for seed in SEEDS)
        return head, tail
    numbers = ids.cast(pl.Int64).to_numpy().view(np.uint64)
    return numbers, np.zeros(len(numbers), np.uint64)


@numba.njit(cache=True)
def number(
    head: Words, tail: Words, table: Places, known_head: Words, known_tail: Words, size: int,
    out: Places, firsts: npt.NDArray[np.int64],
) -> int:  # fmt: skip
    """Fill out (n,), extend what is known, and note where new ids stand; returns how many are new.

    table: a power of two of places, each the number of an id or -1.
    """
    last = np.uint64(len(table) - 1)
    new = 0
    for at in range(len(head)):
        x = head[at] * np.uint64(0x9E3779B97F4A7C15)
        place = (x ^ (x >> np.uint64(29))) & last
        while True:
            found = table[place]
            if found < 0:
                found = size + new
                table[place] = found
                known_head[found], known_tail[found] = head[at], tail[at]
                firsts[new] = at
                new += 1
                break
            if known_head[found] == head[at] and known_tail[found] == tail[at]:
                break
            place = (place + np.uint64(1)) & last
        out[at] = found
    return new
