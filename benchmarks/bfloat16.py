"""Would bfloat16 rank faster? The floors of nmtr-neumf's top 200, in float32 and in bfloat16.

    python benchmarks/bfloat16.py        # writes results/bfloat16.md

On one thread and Beibei's shape, for random weights: what the cascade's highest level costs for all
items of one user, as evaluation/pruned.py needs it. float32 is nmtr's kernel. bfloat16 is torch's
products (oneDNN's) between compiled passes: the first layer's sum, relu and rounding; relus on the
products' bits; the last layer in float32. Least of 5 repetitions of 200 users.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
import torch
from harness.machine import machine
from harness.places import RESULTS
from torch.nn.functional import linear

from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.models.kernels import FAST, Floats
from nmtr.models.kernels.pairs import floors
from nmtr.models.kernels.threads import blas_in_one_thread
from nmtr.models.units import NeuMF

USERS, ITEMS, REPEATS = 200, 7977, 5
Bits = npt.NDArray[np.uint16]


@numba.njit(nogil=True, fastmath=FAST, error_model="numpy")  # type: ignore[untyped-decorator,unused-ignore]
def first(ours: Floats, theirs: Floats, out: Bits) -> None:
    """out (N, H) = relu(ours + theirs) in bfloat16, rounded to nearest."""
    row = np.empty(len(ours), np.float32)
    bits = row.view(np.uint32)
    for x in range(len(theirs)):
        for e in range(len(row)):
            both = ours[e] + theirs[x, e]
            row[e] = both if both > 0 else np.float32(0)
        for e in range(len(row)):
            out[x, e] = np.uint16((bits[e] + np.uint32(0x8000)) >> np.uint32(16))


@numba.njit(nogil=True, fastmath=FAST)  # type: ignore[untyped-decorator,unused-ignore]
def relu(x: npt.NDArray[np.int16]) -> None:
    """In place: a negative bfloat16 is a negative int16."""
    flat = x.ravel()
    for i in range(len(flat)):
        flat[i] = max(flat[i], np.int16(0))


@numba.njit(nogil=True, fastmath=FAST)  # type: ignore[untyped-decorator,unused-ignore]
def last(x: Bits, h: Floats, out: Floats) -> None:
    """out (N,) += x (N, b) in bfloat16 times h (b,)."""
    bits = np.empty(x.shape[1], np.uint32)
    row = bits.view(np.float32)
    for i in range(len(x)):
        for e in range(len(bits)):
            bits[e] = np.uint32(x[i, e]) << np.uint32(16)
        for e in range(len(bits)):
            out[i] += row[e] * h[e]


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    about = machine()
    model = make("nmtr-neumf", {}, Shape(USERS, ITEMS, ("view", "cart", "buy"))).eval()
    with torch.inference_mode():
        for each in model.parameters():
            each.normal_(0, 0.2)
        cascade = model.cascade(model.get_parameter("user"))
        assert cascade is not None
        unit = model.get_submodule("units.2")
        assert isinstance(unit, NeuMF)
        rest = [each for each in unit.mlp.tower.rest if isinstance(each, torch.nn.Linear)]
        steps = [(w.weight.bfloat16(), w.bias.bfloat16()) for w in rest]
        h = unit.mlp.h.numpy()
        held = np.empty((ITEMS, cascade.widths[0]), np.uint16)
        spent: dict[str, float] = {}

        def tick(name: str, began: float) -> float:
            now = time.perf_counter()
            spent[name] = spent.get(name, 0.0) + now - began
            return now

        def low(out: Floats) -> None:
            inner = cascade.p * cascade.h[-1]
            for user in range(USERS):
                now = time.perf_counter()
                out[user] = cascade.q @ inner[user] + cascade.bias[:, -1]
                now = tick("the product p * q", now)
                row = 2 * USERS + user
                first(cascade.first_p[row], cascade.first_q[2 * ITEMS :], held)
                now = tick("first layer", now)
                x = torch.from_numpy(held.view(np.int16)).view(torch.bfloat16)
                for n, (weight, bias) in enumerate(steps):
                    x = linear(x, weight, bias)
                    now = tick(f"layer {n + 2}", now)
                    relu(x.view(torch.int16).numpy())
                    now = tick("relus", now)
                last(x.view(torch.int16).numpy().view(np.uint16), h, out[user])
                tick("last layer", now)

        def high(out: Floats) -> None:
            for start in range(0, USERS, 32):
                stop = min(start + 32, USERS)
                out[start:stop] = floors(cascade, start, stop)

        found = np.empty((2, USERS, ITEMS), np.float32)
        with blas_in_one_thread():
            times = [least(work, out, spent) for work, out in zip((high, low), found, strict=True)]
    error = float(np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())
    parts = ", ".join(f"{name} {seconds / USERS * 1e6:.0f}" for name, seconds in spent.items())
    lines = [
        "# Floors in float32 and in bfloat16",
        "",
        "Written by `python benchmarks/bfloat16.py`; one thread, all items of one user.",
        "",
        "| | microseconds a user |",
        "| --- | --- |",
        f"| float32, nmtr's kernel | {times[0] / USERS * 1e6:.0f} |",
        f"| bfloat16 | {times[1] / USERS * 1e6:.0f} |",
        "",
        f"Of bfloat16's, last repetition: {parts}.",
        f"Largest error, by the largest floor: {error:.2%}.",
        "",
        f"Measured on {', '.join(f'{k} {v}' for k, v in about.items())}.",
    ]
    (RESULTS / "bfloat16.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def least(work: Callable[[Floats], None], out: Floats, spent: dict[str, float]) -> float:
    """Seconds of the quickest of REPEATS, compiled before."""
    work(out)
    seconds = []
    for _ in range(REPEATS):
        spent.clear()
        began = time.perf_counter()
        work(out)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
