"""Events that the service's store acknowledges as durable in a second, beside bare SQLite.

    python benchmarks/store.py [--rounds 5] [--seconds 2] [--folder DISK] [--out FOLDER]

Both sides use the same tables, indexes, journal and syncs, on the same disk, and take turns. The
store also checks each event, knows repeats and the erased, and answers each call. Bare SQLite
inserts rows that are ready, in one transaction a call; its writers share a connection by a lock.
Writes store.csv and store.md into the results.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness import tables
from harness.machine import machine
from harness.measurements import Measurement, Summary, by_round, write
from harness.places import RESULTS, WORK

from nmtr.serving.store import Event, Exposure, Store

Call = list[Event]
Send = Callable[[Call], object]
KEY = b"a key of the benchmark's own"
USERS = 20_000
CASES = {  # events of a call, writers at once
    "batches of 1,000": (1000, 1),
    "batches of 100": (100, 1),
    "one by one": (1, 1),
    "one by one, 8 writers": (1, 8),
    "one by one, 32 writers": (1, 32),
}
TARGETS = {"batches of 1,000": 10_000, "batches of 100": 10_000, "one by one": 1_000}
OURS, BARE = "nmtr store", "bare SQLite"
INSERT = (
    "INSERT INTO nmtr_events (user_id, item_id, behavior, timestamp, received_at, event_id)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--folder", type=Path, default=WORK, help="on the disk to be measured")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    found: list[Measurement] = []
    for number in range(1, given.rounds + 1):
        for case, (size, writers) in CASES.items():
            for name, side, opened in ((OURS, "ours", ours), (BARE, "peer", bare)):
                with (
                    tempfile.TemporaryDirectory(dir=given.folder) as folder,
                    opened(folder) as send,
                ):
                    rate = events_per_second(send, size, writers, given.seconds)
                found.append(
                    Measurement(case, name, side, writers, number, "events_per_second", rate)
                )
                print(f"{number} {case}: {name} {rate:,.0f} events/s", flush=True)
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            for case, rate in others(Path(folder), given.seconds).items():
                found.append(Measurement(case, OURS, "ours", 1, number, "per_second", rate))
                print(f"{number} {case}: {rate:,.0f} a second", flush=True)
    write(given.out / "store.csv", found)
    (given.out / "store.md").write_text(page(found, about))


def events(count: int) -> Call:
    """New events of many users, with ids of their own, as clients make them."""
    now = time.time_ns() // 1000
    return [
        Event(f"item-{i % 997}", "view", f"user-{hash(name := str(uuid.uuid4())) % USERS}", None,
              now, name)
        for i in range(count)
    ]  # fmt: skip


@contextmanager
def ours(folder: str) -> Iterator[Send]:
    with Store(Path(folder) / "store.db", key=KEY) as store:
        yield store.append


@contextmanager
def bare(folder: str) -> Iterator[Send]:
    """The same file, made by the store, and written without it."""
    path = Path(folder) / "store.db"
    Store(path, key=KEY).close()
    lock = threading.Lock()
    connect = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with closing(connect) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")

        def send(call: Call) -> None:
            rows = [
                (e.user_id, e.item_id, e.behavior, e.timestamp, e.timestamp, e.event_id)
                for e in call
            ]
            with lock:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT, rows)
                connection.execute("COMMIT")

        yield send


def events_per_second(send: Send, size: int, writers: int, seconds: float) -> float:
    """How many events writers at once get acknowledged, each waiting for its answer.

    The events are made before; a writer who has sent all of its own makes more, uncounted.
    """
    ready = [
        [events(size) for _ in range(max(1, 20_000 // size // writers))] for _ in range(writers)
    ]
    counts, spent = [0] * writers, [0.0] * writers

    def run(writer: int) -> None:
        calls = ready[writer]
        while spent[writer] < seconds:
            begun = time.perf_counter()
            for call in calls:
                send(call)
                counts[writer] += size
                if spent[writer] + time.perf_counter() - begun > seconds:
                    break
            spent[writer] += time.perf_counter() - begun
            if spent[writer] < seconds:
                calls = [events(size) for _ in calls]

    threads = [threading.Thread(target=run, args=(each,)) for each in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(count / time for count, time in zip(counts, spent, strict=True))


def others(folder: Path, seconds: float) -> dict[str, float]:
    """What else a request asks of the store: a user's history, and remembering the response."""
    with Store(folder / "store.db", key=KEY) as store:
        for _ in range(100):
            store.append(events(4_000))
        users = iter(range(10**9))
        history = rate(lambda: store.history(user_id=f"user-{next(users) % USERS}"), seconds)
        items = [f"item-{each}" for each in range(20)]
        numbers = [each / 7 for each in range(20)]

        def show() -> None:
            name = str(uuid.uuid4())
            shown = Exposure(name, items, numbers, numbers, "model", user_id=f"user-{next(users)}")
            if store.waiting < 5_000:
                store.show(shown)
            else:
                store.show(shown).result()

        exposures = rate(show, seconds)
    return {"history of a user (20 events)": history, "exposures of 20 items": exposures}


def rate(work: Callable[[], object], seconds: float) -> float:
    """How often a second something is done by one thread."""
    begun, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        work()
        count += 1
    return count / spent


def page(found: list[Measurement], about: dict[str, str]) -> str:
    """The results as a page."""
    lines = []
    for case in CASES:
        of = [each for each in found if each.task == case]
        mine, theirs = (by_round(of, name, "events_per_second") for name in (OURS, BARE))
        shares = Summary.of([mine[each] / theirs[each] for each in mine])
        target = TARGETS.get(case)
        low = Summary.of(list(mine.values()))
        if low is None or shares is None:
            continue
        lines.append([
            case, spread(low), spread(Summary.of(list(theirs.values()))),
            f"{spread(shares)}", f"{target:,}" if target else "-",
            tables.WORDS[low.median >= target if target else None],
        ])  # fmt: skip
    rest = []
    for case in dict.fromkeys(each.task for each in found if each.task not in CASES):
        of = [each for each in found if each.task == case]
        rest.append([case, spread(Summary.of(list(by_round(of, OURS, "per_second").values())))])
    kept = ("date", "cpu", "load", "python", "nmtr")
    where = ", ".join(f"{name} {about[name]}" for name in kept)
    head = ("events/s, durable", OURS, BARE, "share of it", "target", "met")
    return f"""\
# The store

Written by `python benchmarks/store.py`. Medians over rounds, least and most in brackets; the share
is taken within a round, where both met the same disk.

{tables.table(head, lines)}

What a request asks of the store besides, by one thread:

{tables.table(("a second", OURS), rest)}

Measured on {where}, SQLite {sqlite3.sqlite_version}, {sys.platform}.
"""


def spread(summary: Summary | None) -> str:
    """A median with the least and the most."""
    if summary is None:
        return "-"
    median, low, high = (tables.short(n) for n in (summary.median, summary.low, summary.high))
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    main()
