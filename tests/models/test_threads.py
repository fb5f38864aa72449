"""Work in threads of our own gives what it would give in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nmtr.models.kernels.threads import ahead, even_cuts, in_threads


def test_items_made_ahead_come_whole_and_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []
    assert list(ahead(iter([None, 0]))) == [None, 0]


def test_an_error_comes_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    found = ahead(broken())
    assert next(found) == 1
    with pytest.raises(OSError, match="no more"):
        next(found)


def test_parts_cover_all_once_and_their_results_keep_the_order() -> None:
    cuts = even_cuts(10, 3)
    assert cuts == [0, 3, 6, 10]
    parts = in_threads(lambda low, high: list(range(low, high)), cuts)
    assert [each for part in parts for each in part] == list(range(10))
