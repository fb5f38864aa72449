"""Measures the machine: its rate of matrix products and of copies, as torch reaches them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from worker import Spec, main

SIDE = 2048
SLOW = 1.0  # seconds of one product from which on a smaller one must do
COPIED = 256 * 2**20  # bytes: no cache holds them


def best(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest call: a roof is what the machine can do, not what it did today."""
    call()
    found, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until or found == float("inf"):
        began = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - began)
    return found


def products(dtype: torch.dtype, seconds: float) -> float:
    """Operations a second of square products; a multiplication and an addition are two."""
    side = SIDE // 4
    while True:
        a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
        a @ b  # starts threads and picks a kernel
        began = time.perf_counter()
        a @ b
        took = time.perf_counter() - began
        if side >= SIDE or took * 8 > SLOW:
            break
        side *= 2
    return 2 * side**3 / best(lambda: a @ b, seconds)


def rates(spec: Spec, _: object) -> Mapping[str, float]:
    """Products in float32 and bfloat16; bytes read and written by a copy of what no cache holds."""
    torch.set_num_threads(spec.threads)
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    return {
        "float32_flops": products(torch.float32, spec.seconds),
        "bfloat16_flops": products(torch.bfloat16, spec.seconds),
        "copy_bytes": 2 * COPIED / best(lambda: target.copy_(source), spec.seconds),
    }


if __name__ == "__main__":
    main(lambda _: None, {"rates": rates})
