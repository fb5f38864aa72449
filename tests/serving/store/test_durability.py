"""What was acknowledged is on the disk: after kill -9, beside another server, and by its syncs."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from nmtr.serving.store import Store

if TYPE_CHECKING:
    from tests.serving.store.conftest import Cluster

Opener = Callable[..., Store]
CHILD = Path(__file__).with_name("ingest_child.py")
KILLS = int(os.environ.get("NMTR_KILLS", "5"))
Call = tuple[str, int]


def start(place: str, name: str, *, calls: int, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), place, name, str(calls), str(threads)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(output: str) -> set[Call]:
    lines = (line.split() for line in output.splitlines())
    return {(name, int(call)) for name, call, *_ in lines}


def stored(store: Store) -> dict[Call, int]:
    """How many events there are of each call; no event twice, and of no call a part."""
    ids = pl.concat(store.frames())["event_id"].to_list()
    assert max(Counter(ids).values()) == 1
    found = Counter((name, int(call)) for name, call, _ in (each.split(":") for each in ids))
    assert all(events == (7 if call % 2 else 1) for (_, call), events in found.items())
    return found


def test_every_acknowledged_event_is_there_once_after_kill_9(
    place: str, open_store: Opener
) -> None:
    """NMTR_KILLS says how often; the store is never closed in between."""
    luck = random.Random(7)
    promised: set[Call] = set()
    for round_ in range(KILLS):
        child = start(place, f"round-{round_}", calls=0, threads=4)
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(luck.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        assert child.returncode == -signal.SIGKILL
        promised |= acknowledged(first + rest)
    found = stored(open_store(place))
    assert len(promised) >= KILLS
    assert promised <= found.keys()


def test_two_servers_on_one_store_lose_nothing_and_store_nothing_twice(
    place: str, open_store: Opener
) -> None:
    """Both send the same calls under the same ids, and each event is accepted by one of them."""
    children = [start(place, "same", calls=60, threads=1) for _ in range(2)]
    outputs = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert [acknowledged(each) for each in outputs] == [{("same", call) for call in range(60)}] * 2
    accepted, duplicates = Counter[int](), Counter[int]()
    for line in "".join(outputs).splitlines():
        _, call, new, again = line.split()
        accepted[int(call)] += int(new)
        duplicates[int(call)] += int(again)
    assert accepted == duplicates
    found = stored(open_store(place))
    assert found == {("same", call): events for call, events in accepted.items()}


def test_one_who_reads_on_from_the_last_number_misses_nothing(
    place: str, open_store: Opener
) -> None:
    """Two servers write; a number that can be read has no smaller one that appears later."""
    children = [start(place, f"w{each}", calls=40, threads=2) for each in range(2)]
    store = open_store(place)
    seen: list[int] = []
    while any(each.poll() is None for each in children) or store.last_seq() > (seen or [0])[-1]:
        for frame in store.frames(after=seen[-1] if seen else 0):
            seen += frame["seq"].to_list()
    for each in children:
        assert each.communicate()[0].count("\n") == 80
    assert seen == [each for frame in store.frames() for each in frame["seq"]]
    assert len(seen) == 2 * 2 * (20 * 1 + 20 * 7)


def test_events_survive_the_crash_of_postgres(cluster: Cluster, open_store: Opener) -> None:
    place = cluster.place()
    child = start(place, "crash", calls=0, threads=2)
    assert child.stdout is not None
    first = child.stdout.readline()
    cluster.stop("immediate")
    try:
        rest, _ = child.communicate(timeout=30)
    finally:
        cluster.start()
    assert acknowledged(first + rest) <= stored(open_store(place)).keys()


@pytest.fixture
def trace(tmp_path: Path) -> list[str]:
    """System calls of a child that stores calls one after the other, in their order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: apt-get install strace")
    out = tmp_path / "trace"
    watched = "trace=pwrite64,write,fdatasync,fsync"
    child = [sys.executable, str(CHILD), str(tmp_path / "store.db"), "traced", "20", "1"]
    command = [strace, "-f", "-y", "-o", str(out), "-e", watched, *child]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    return out.read_text().splitlines()


def test_the_log_is_synced_between_its_writing_and_the_answer(trace: list[str]) -> None:
    answers, unsynced, synced = 0, False, False
    syncing: set[str] = set()  # threads whose call had not returned when another's was traced
    for line in trace:
        thread, _, call = line.partition(" ")
        if re.match(r"\s*pwrite64\(\d+<[^>]*store\.db-wal>", call):
            unsynced, synced = True, False
        elif re.match(r"\s*f(data)?sync\(\d+<[^>]*store\.db-wal> <unfinished", call):
            syncing.add(thread)
        elif re.match(r"\s*f(data)?sync\(\d+<[^>]*store\.db-wal>\)\s+= 0", call) or (
            thread in syncing and re.match(r"\s*<\.\.\. f(data)?sync resumed>\)\s+= 0", call)
        ):
            syncing.discard(thread)
            unsynced, synced = False, True
        elif re.search(r'\bwrite\(1<[^>]*>, "traced ', line):
            assert synced, f"nothing was synced before: {line}"
            assert not unsynced
            answers, synced = answers + 1, False
    assert answers == 20
