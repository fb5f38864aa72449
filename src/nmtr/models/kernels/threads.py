"""Compiled work in several threads: the calling one takes the first part, a pool the others.

A pool of our own, because torch's is not to be had from compiled code. The small matrix products
inside a part must then stay in its thread, hence `blas_in_one_thread`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from itertools import pairwise
from typing import TypeVar, cast

from threadpoolctl import ThreadpoolController

T = TypeVar("T")


def in_threads(part: Callable[[int, int], T], cuts: list[int]) -> list[T]:
    """part(low, high) for each two neighbours of `cuts`, at the same time; results in order."""
    bounds = list(pairwise(cuts))
    later = [_pool().submit(part, *each) for each in bounds[1:]]
    return [part(*bounds[0]), *(each.result() for each in later)]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made while the one before is in use."""
    done = object()
    coming = _pool().submit(next, items, done)
    while (item := coming.result()) is not done:
        coming = _pool().submit(next, items, done)
        yield cast(T, item)


def even_cuts(length: int, parts: int) -> list[int]:
    """Bounds of so many parts of equal length."""
    return [length * each // parts for each in range(parts + 1)]


def blas_in_one_thread() -> AbstractContextManager[object]:
    """While it lasts, a matrix product of NumPy or SciPy stays in the thread that asks for it."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="nmtr")


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  # compiled code multiplies with this one

    return ThreadpoolController()
