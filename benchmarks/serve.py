"""Requests that `nmtr serve` answers in a second on loopback, and how long each waits.

    python benchmarks/serve.py gmf.nmtr neumf.nmtr [--rounds 3] [--seconds 10] [--soak 60] [--out F]

Client (wrk, one thread) and server share two cores: where a machine has more, both keep to two.
The bundles are of a log whose user and item ids are 0, 1, ..., as Beibei's:

    nmtr data get beibei --out beibei; nmtr prepare ... --out data
    nmtr train data --out gmf --model nmtr-gmf; nmtr bundle gmf --out gmf.nmtr

For each bundle: recommendations for users drawn evenly, as many as 32 connections get, then at
half of that (at least half of the target), with pauses between requests as of independent users.
Then events one by one (16 connections) and in batches of 1,000. Then a soak at half load, with the
bundle's file replaced every 5 seconds by the other one: memory, and requests that failed.
Writes serve.csv and serve.md into the results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness import tables, wrk
from harness.machine import machine
from harness.measurements import Measurement, Summary, by_round, write
from harness.places import RESULTS, WORK

CONNECTIONS = 32
TARGETS = {"nmtr-gmf": 1000.0, "nmtr-neumf": 400.0}  # recommendations a second
P99 = 50.0  # ms at half load
EVENTS = {"one by one": (1, 16, 1000.0), "batches of 1,000": (1000, 4, 10_000.0)}
RELOAD = 5.0  # seconds between two reloads of the soak
SERVER = "nmtr serve"


class Running(NamedTuple):
    """A server and what it serves."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    card: dict[str, Any]

    def memory(self) -> float:
        """MB that are resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--warm", type=float, default=30, help="seconds of load before the first")
    parser.add_argument("--soak", type=float, default=60, help="seconds; 600 to claim anything")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    WORK.mkdir(parents=True, exist_ok=True)
    wrk.program()
    about, found = machine(), []
    for bundle in given.bundles:
        with serving(bundle) as server:
            load(server, given.warm)
            for number in range(1, given.rounds + 1):
                found += recommendations(server, number, given.seconds)
    with serving(given.bundles[0]) as server:
        for number in range(1, given.rounds + 1):
            found += events(server, number, given.seconds)
    found += soak(given.bundles, given.soak)
    write(given.out / "serve.csv", found)
    (given.out / "serve.md").write_text(page(found, about))


@contextmanager
def serving(bundle: Path) -> Iterator[Running]:
    """A server on a copy of the bundle and a store of its own."""
    with tempfile.TemporaryDirectory(dir=WORK) as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        served = folder / "served.nmtr"
        shutil.copy(bundle, served)
        command = [
            sys.executable, "-m", "nmtr", "serve", str(served), "--data", str(folder / "data"),
            "--port", str(port), "--rate", "0", "--watch", "0.2", "--log-level", "warning",
        ]  # fmt: skip
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
        url = f"http://127.0.0.1:{port}"
        try:
            card = ask(url, process)
            yield Running(process, url, folder, card)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def ask(url: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The first arm's card, once the server is there."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v1/model", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)["arms"][0]
                return found
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the server ended with {process.returncode}")


def load(server: Running, seconds: float, *, pause: float = 0, seed: int = 1) -> wrk.Load:
    """Recommendations for users drawn evenly."""
    script = wrk.RECOMMEND.format(seed=seed, users=server.card["users"])
    if pause:
        script += wrk.PAUSE.format(pause=pause)
    return wrk.run(
        server.url, script, folder=server.folder, connections=CONNECTIONS, seconds=seconds
    )


def recommendations(server: Running, number: int, seconds: float) -> list[Measurement]:
    model = server.card["model"]
    most = load(server, seconds, seed=number)
    half = max(most.rate, TARGETS.get(model, 0)) / 2
    paced = load(server, seconds, pause=pause_for(half), seed=number + 1000)
    values = {
        "per_second": most.rate, "p50_ms": most.p50, "p99_ms": most.p99,
        "half_per_second": paced.rate, "half_p50_ms": paced.p50, "half_p99_ms": paced.p99,
        "failed_requests": most.failed + paced.failed,
    }  # fmt: skip
    print(number, model, {name: round(value, 1) for name, value in values.items()}, flush=True)
    return [
        Measurement(f"recommend, {model}", SERVER, "ours", 1, number, name, value)
        for name, value in values.items()
    ]


def pause_for(rate: float, answer: float = 14.0) -> float:
    """Mean ms between an answer and the next request, for so many requests a second in all."""
    return max(1.0, CONNECTIONS / rate * 1000 - answer)


def events(server: Running, number: int, seconds: float) -> list[Measurement]:
    found = []
    for case, (size, connections, _) in EVENTS.items():
        script = wrk.EVENTS.format(
            seed=f"{number}{size}", size=size, users=server.card["users"],
            items=server.card["items"], behavior=server.card["behaviors"][0],
        )  # fmt: skip
        got = wrk.run(
            server.url, script, folder=server.folder, connections=connections, seconds=seconds
        )
        values = {
            "per_second": got.rate * size, "p50_ms": got.p50, "p99_ms": got.p99,
            "failed_requests": got.failed,
        }  # fmt: skip
        print(number, "events", case, {n: round(v, 1) for n, v in values.items()}, flush=True)
        found += [
            Measurement(f"events, {case}", SERVER, "ours", 1, number, name, value)
            for name, value in values.items()
        ]
    return found


def soak(bundles: list[Path], seconds: float) -> list[Measurement]:
    """Half load while the file is replaced again and again; memory by third of the time."""
    stop, memory = threading.Event(), []
    with serving(bundles[0]) as server:
        served, reloads = server.folder / "served.nmtr", 0

        def reload() -> None:
            nonlocal reloads
            while not stop.wait(RELOAD):
                reloads += 1
                shutil.copy(bundles[reloads % len(bundles)], served.with_suffix(".new"))
                os.replace(served.with_suffix(".new"), served)

        def watch() -> None:
            while not stop.wait(1.0):
                memory.append(server.memory())

        threads = [threading.Thread(target=each) for each in (reload, watch)]
        for each in threads:
            each.start()
        pause = pause_for(min(TARGETS.values()) / 2)
        try:
            got = load(server, seconds, pause=pause)
        finally:
            stop.set()
            for each in threads:
                each.join()
    third = max(1, len(memory) // 3)
    values = {
        "seconds": seconds, "reloads": reloads, "per_second": got.rate, "p99_ms": got.p99,
        "failed_requests": got.failed, "first_third_mb": statistics.median(memory[:third]),
        "last_third_mb": statistics.median(memory[-third:]), "most_mb": max(memory),
    }  # fmt: skip
    print("soak", {name: round(value, 1) for name, value in values.items()}, flush=True)
    return [Measurement("soak", SERVER, "ours", 1, 1, name, v) for name, v in values.items()]


def page(found: list[Measurement], about: dict[str, str]) -> str:
    """The results as a page."""

    def of(task: str, metric: str) -> Summary | None:
        mine = [each for each in found if each.task == task]
        return Summary.of(list(by_round(mine, SERVER, metric).values()))

    lines = []
    for task in dict.fromkeys(each.task for each in found if each.task.startswith("recommend")):
        most, paced, late = (
            of(task, name) for name in ("per_second", "half_per_second", "half_p99_ms")
        )
        target = TARGETS.get(task.removeprefix("recommend, "))
        met = None
        if most and late and target:
            met = most.median >= target and late.median < P99
        lines.append([
            task, spread(most), f"{target:,.0f}" if target else "-", spread(of(task, "p99_ms")),
            spread(paced), spread(of(task, "half_p50_ms")), spread(late), tables.WORDS[met],
        ])  # fmt: skip
    rest = []
    for case, (_, _, target) in EVENTS.items():
        most = of(f"events, {case}", "per_second")
        met = most.median >= target if most else None
        rest.append([
            case, spread(most), f"{target:,.0f}", spread(of(f"events, {case}", "p99_ms")),
            tables.WORDS[met],
        ])  # fmt: skip
    names = ("seconds", "reloads", "per_second", "p99_ms", "failed_requests", "first_third_mb",
             "last_third_mb", "most_mb")  # fmt: skip
    soaked = [[name.replace("_", " "), spread(of("soak", name))] for name in names]
    failed = sum(
        each.value for each in found
        if each.metric == "failed_requests" and isinstance(each.value, float | int)
    )  # fmt: skip
    kept = ("date", "cpu", "load", "python", "nmtr", "torch", "numba")
    where = ", ".join(f"{name} {about[name]}" for name in kept if name in about)
    return f"""\
# The HTTP service

Written by `python benchmarks/serve.py`: client (wrk) and server share two cores; medians over
rounds, least and most in brackets. Latencies in ms, as the client saw them. A target is met where
so many are answered a second, and 99 % of requests at half load wait less than {P99:g} ms.

{
        tables.table(
            ("recommendations", "a second", "target", "p99", "half load", "p50", "p99", "met"),
            lines,
        )
    }

Every list's exposure is stored too. Requests that failed, in all: {failed:g}.

{tables.table(("events, durable when answered", "a second", "target", "p99", "met"), rest)}

Half load while the bundle's file is replaced every {RELOAD:g} s:

{tables.table(("soak", "value"), soaked)}

Measured on {where}, {sys.platform}. Load is the machine's before the run: above 1 it was shared.
"""


def spread(summary: Summary | None) -> str:
    """A median with the least and the most."""
    if summary is None:
        return "-"
    median, low, high = (tables.short(n) for n in (summary.median, summary.low, summary.high))
    return median if summary.rounds == 1 else f"{median} ({low} to {high})"


if __name__ == "__main__":
    main()
