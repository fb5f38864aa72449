"""Records: which user did which behaviour on which item, as one CSR per behaviour.

Letters: M users, N items, R behaviours, B users of a batch. Indices are int32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]
MAPPED = 2**24  # indices of a set from which on they are kept in a file


@dataclass(frozen=True)
class CSR:
    """A set of (row, column) pairs; the columns of a row are sorted and distinct.

    indptr: (rows + 1,) int64; indices: (pairs,) int32; n_columns: how many columns there are.
    at: (pairs,) when each pair was last met, ms since 1970 UTC; None where that is not told.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    n_columns: int
    at: npt.NDArray[np.int64] | None = None

    @classmethod
    def from_keys(
        cls,
        keys: npt.NDArray[np.int64],
        n_rows: int,
        n_columns: int,
        at: npt.NDArray[np.int64] | None = None,
    ) -> CSR:
        """Build from sorted distinct keys row * n_columns + column."""
        rows = keys // n_columns
        indptr = np.zeros(n_rows + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=n_rows), out=indptr[1:])
        return cls(indptr, (keys - rows * n_columns).astype(np.int32), n_columns, at)

    @classmethod
    def from_pairs(
        cls, rows: npt.ArrayLike, columns: npt.ArrayLike, n_rows: int, n_columns: int
    ) -> CSR:
        """Build from pairs in any order, repeats allowed."""
        keys = np.asarray(rows, np.int64) * n_columns + np.asarray(columns, np.int64)
        return cls.from_keys(distinct(keys), n_rows, n_columns)

    @classmethod
    def stacked(cls, parts: Sequence[CSR]) -> CSR:
        """The rows of sets of the same columns, one set's below the other's."""
        indptr = np.zeros(sum(each.n_rows for each in parts) + 1, np.int64)
        np.cumsum(np.concatenate([each.lengths() for each in parts]), out=indptr[1:])
        times = [each.at for each in parts if each.at is not None]
        at = _joined(times) if len(times) == len(parts) else None
        return cls(indptr, _joined([each.indices for each in parts]), parts[0].n_columns, at)

    def between(self, low: int, high: int) -> CSR:
        """The rows low..high-1, where they lie."""
        start, stop = self.indptr[low], self.indptr[high]
        at = None if self.at is None else self.at[start:stop]
        return CSR(
            self.indptr[low : high + 1] - start, self.indices[start:stop], self.n_columns, at
        )

    @property
    def n_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        return len(self.indices)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """The columns of one row."""
        return self.indices[self.indptr[index] : self.indptr[index + 1]]

    def lengths(self) -> npt.NDArray[np.int64]:
        """(rows,) pairs in each row."""
        return np.diff(self.indptr)

    def row_of_each(self) -> npt.NDArray[np.int64]:
        """(pairs,) the row of each pair."""
        return np.repeat(np.arange(self.n_rows), self.lengths())

    def keys(self) -> npt.NDArray[np.int64]:
        """(pairs,) row * n_columns + column, ascending."""
        return self.row_of_each() * self.n_columns + self.indices

    def column_counts(self) -> npt.NDArray[np.int64]:
        """(columns,) pairs in each column."""
        return np.bincount(self.indices, minlength=self.n_columns)

    def take(self, rows: IntArray) -> CSR:
        """The chosen rows, in that order; a row of -1 comes out empty."""
        rows = np.asarray(rows, np.int64)
        known = rows >= 0
        safe = np.where(known, rows, 0)
        starts = self.indptr[safe]
        lengths = np.where(known, self.indptr[safe + 1] - starts, 0)
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        places = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
        at = None if self.at is None else self.at[places]
        return CSR(indptr, self.indices[places], self.n_columns, at)

    def contains(self, rows: IntArray, columns: IntArray) -> npt.NDArray[np.bool_]:
        """For each given pair, whether it is in the set."""
        return self.places(rows, columns) >= 0

    def places(self, rows: IntArray, columns: IntArray) -> npt.NDArray[np.int64]:
        """For each given pair, where it stands among the set's; -1 where it does not."""
        keys, wanted = self.keys(), self._keys_of(rows, columns)
        if not len(keys):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, at, -1)

    def without(self, rows: IntArray, columns: IntArray) -> CSR:
        """The set less the given pairs."""
        places = self.places(rows, columns)
        keep = np.ones(self.nnz, np.bool_)
        keep[places[places >= 0]] = False
        return self._kept(keep)

    def before(self, moments: npt.NDArray[np.int64]) -> CSR:
        """The pairs last met before their row's moment (rows,); of what has times only."""
        assert self.at is not None, "pairs without times are before nothing"
        return self._kept(self.at < moments[self.row_of_each()])

    def _kept(self, keep: npt.NDArray[np.bool_]) -> CSR:
        at = None if self.at is None else self.at[keep]
        return CSR.from_keys(self.keys()[keep], self.n_rows, self.n_columns, at)

    def _keys_of(self, rows: IntArray, columns: IntArray) -> npt.NDArray[np.int64]:
        """Keys of pairs; -1, a key of no set, where row or column is -1 or past the end."""
        rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        known = (rows >= 0) & (columns >= 0) & (columns < self.n_columns)
        return np.where(known, rows * self.n_columns + columns, -1)


def user_cuts(indptr: npt.NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Ranges of users, one after the other, each of at most `size` of what indptr counts.

    Who has more is alone.
    """
    bounds, users = [0], len(indptr) - 1
    while bounds[-1] < users:
        stop = int(np.searchsorted(indptr, indptr[bounds[-1]] + size, side="right")) - 1
        bounds.append(min(max(stop, bounds[-1] + 1), users))
    return list(pairwise(bounds))


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays one after the other; many of them in a file without a name, which is mapped."""
    size = sum(map(len, parts))
    if size <= MAPPED:
        return np.concatenate(parts)
    with TemporaryFile() as stream:
        for each in parts:
            np.ascontiguousarray(each).tofile(stream)
        stream.flush()
        return np.asarray(np.memmap(stream, parts[0].dtype, "r", shape=(size,)))


def distinct(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sorted distinct keys; sorting is several times faster here than numpy's hashing `unique`."""
    keys = np.sort(keys)
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def union(sets: Sequence[CSR]) -> CSR:
    """All pairs of sets of one shape."""
    keys = distinct(np.concatenate([each.keys() for each in sets]))
    return CSR.from_keys(keys, sets[0].n_rows, sets[0].n_columns)


@dataclass(frozen=True)
class Records:
    """Pairs per behaviour, lowest behaviour first, the target last."""

    behaviors: tuple[str, ...]
    sets: tuple[CSR, ...]

    @classmethod
    def stacked(cls, parts: Sequence[Records]) -> Records:
        """The records of users who follow each other, part after part."""
        sets = zip(*(each.sets for each in parts), strict=True)
        return cls(parts[0].behaviors, tuple(CSR.stacked(each) for each in sets))

    def between(self, low: int, high: int) -> Records:
        """The users low..high-1 alone."""
        return Records(self.behaviors, tuple(each.between(low, high) for each in self.sets))

    def cuts(self, size: int) -> list[tuple[int, int]]:
        """Ranges of users, one after the other, each of about `size` records."""
        return user_cuts(sum((each.indptr for each in self.sets[1:]), self.sets[0].indptr), size)

    @property
    def n_users(self) -> int:
        return self.sets[0].n_rows

    @property
    def n_items(self) -> int:
        return self.sets[0].n_columns

    @property
    def target(self) -> CSR:
        return self.sets[-1]

    def seen(self) -> CSR:
        """Every pair under any behaviour."""
        return union(self.sets)

    def only(self, behaviors: Sequence[str]) -> Records:
        """The records of these behaviours, in the order given."""
        sets = dict(zip(self.behaviors, self.sets, strict=True))
        return Records(tuple(behaviors), tuple(sets[each] for each in behaviors))

    def histories(self, users: IntArray) -> Histories:
        """What these users have done, as a model may look at it when it scores."""
        index = np.asarray(users, np.int64)
        return Histories(index, tuple(each.take(index) for each in self.sets))


@dataclass(frozen=True)
class Histories:
    """Users as a model meets them: an index, or -1 for a stranger, and their items per behaviour.

    users: (B,) int64; items: R sets of B rows.
    """

    users: npt.NDArray[np.int64]
    items: tuple[CSR, ...]

    def __len__(self) -> int:
        return len(self.users)

    def slice(self, start: int, stop: int) -> Histories:
        """The users start..stop-1."""
        rows = np.arange(start, min(stop, len(self)))
        return Histories(self.users[rows], tuple(each.take(rows) for each in self.items))


@dataclass(frozen=True)
class LabelledPairs:
    """The union of all behaviours' pairs; bit r of `bits` says that the pair has behaviour r.

    pairs: a set of P pairs; bits: (P,) uint32.
    """

    pairs: CSR
    bits: npt.NDArray[np.uint32]
    n_behaviors: int

    @classmethod
    def from_records(cls, records: Records) -> LabelledPairs:
        if len(records.sets) > 32:
            raise ValueError(f"at most 32 behaviours, got {len(records.sets)}")
        pairs = records.seen()
        keys = pairs.keys()
        bits = np.zeros(pairs.nnz, np.uint32)
        for r, each in enumerate(records.sets):
            bits[np.searchsorted(keys, each.keys())] |= np.uint32(1 << r)
        return cls(pairs, bits, len(records.sets))
