"""Real servers in processes of their own: killed, reloaded under load, stopped, started wrongly."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.serving.store import Store
from nmtr.training.run import Run

KILLS = int(os.environ.get("NMTR_KILLS", "5"))
START = 90  # seconds, on a machine that does much else


@dataclass
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with closing(self.connect()) as connection:
            return ask(connection, method, path, body)

    def wait(self) -> None:
        """Until it is ready."""
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self.process.poll()}")


Start = Callable[..., Server]


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def command(bundle: Path, data: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "nmtr", "serve", str(bundle), "--data", str(data), "--rate", "0",
        "--port", str(free_port()), "--watch", "0.1", *options,
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers; they are ended after the test."""
    servers: list[Server] = []

    def starter(bundle: Path, *options: str, data: Path = tmp_path / "data") -> Server:
        words = command(bundle, data, *options)
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        servers.append(Server(process, int(words[words.index("--port") + 1])))
        servers[-1].wait()
        return servers[-1]

    yield starter
    for each in servers:
        each.process.kill()
        each.process.wait()


def replace(path: Path, by: Path) -> None:
    """Put a bundle in another's place as `nmtr bundle` does: whole or not at all."""
    shutil.copy(by, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def ingest(server: Server, name: str, acknowledged: list[str], finished: Run) -> None:
    """Send events, one and seven in turn, until the server is gone."""
    items = [str(each) for each in finished.data.items.ids[:7].to_list()]
    with closing(server.connect()) as connection:
        for call in range(100_000):
            count = 7 if call % 2 else 1
            events = [
                {"event_id": f"{name}:{call}:{part}", "user": f"u{call % 50}",
                 "item": items[part], "behavior": "view"}
                for part in range(count)
            ]  # fmt: skip
            try:
                status, _ = ask(connection, "POST", "/v1/events", {"events": events})
            except (OSError, http.client.HTTPException):
                return
            assert status == 200
            acknowledged += [each["event_id"] for each in events]


def test_every_acknowledged_event_is_there_once_after_kill_9(
    start: Start, bundled: Path, finished: Run, tmp_path: Path
) -> None:
    """NMTR_KILLS says how often."""
    luck = random.Random(3)
    acknowledged: list[str] = []
    for round_ in range(KILLS):
        server = start(bundled)
        clients = [
            threading.Thread(
                target=ingest, args=(server, f"{round_}.{each}", acknowledged, finished)
            )
            for each in range(3)
        ]
        before = len(acknowledged)
        for each in clients:
            each.start()
        while len(acknowledged) < before + 20:
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 0.3))
        server.process.send_signal(signal.SIGKILL)
        for each in clients:
            each.join()
    with Store(tmp_path / "data" / "store.db") as store:
        ids = Counter(pl.concat(store.frames())["event_id"].to_list())
    assert len(acknowledged) >= 20 * KILLS
    assert max(ids.values()) == 1
    assert set(acknowledged) <= ids.keys()
    calls = Counter(each.rpartition(":")[0] for each in ids)
    assert set(calls.values()) == {1, 7}, "a call is stored whole or not at all"


def model_of(server: Server) -> str:
    """The fingerprint of what is served."""
    found: str = server.ask("GET", "/readyz")[1]["arms"]["control"]
    return found


@contextmanager
def asked(server: Server, clients: int) -> Iterator[Counter[str]]:
    """Clients that ask without pause: how many answers each model gave. None may fail."""
    seen: Counter[str] = Counter()
    failures: list[Any] = []
    stop = threading.Event()

    def ask_on(number: int) -> None:
        with closing(server.connect()) as connection:
            while not stop.is_set():
                status, found = ask(connection, "GET", f"/v1/recommendations?user=u{number}&k=5")
                if status != 200 or len(found["items"]) != 5:
                    failures.append((status, found))
                    return
                seen[found["model"]] += 1

    threads = [threading.Thread(target=ask_on, args=(each,)) for each in range(clients)]
    for each in threads:
        each.start()
    try:
        yield seen
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert failures == []


def test_bundles_are_exchanged_under_load_without_a_request_dropped(
    start: Start, bundled: Path, another: Path, tmp_path: Path
) -> None:
    """By the file's change, a signal and a request; a broken file changes nothing."""
    served = tmp_path / "served.nmtr"
    shutil.copy(bundled, served)
    server = start(served)

    def exchanged(by: Path, way: str) -> None:
        before = model_of(server)
        replace(served, by)
        if way == "request":
            status, _ = server.ask("POST", "/v1/reload")
            assert status == 200
        elif way == "signal":
            server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + START
        while model_of(server) == before:
            assert time.monotonic() < end, f"nothing came of the {way}"
            time.sleep(0.02)

    ways = ((another, "file"), (bundled, "request"), (another, "signal"), (bundled, "file"))
    with asked(server, 4) as seen:
        for by, way in ways:
            exchanged(by, way)
        good = model_of(server)
        served.with_suffix(".bad").write_bytes(bundled.read_bytes()[:-100])
        os.replace(served.with_suffix(".bad"), served)
        status, problem = server.ask("POST", "/v1/reload")
        assert status == 409
        assert "go on" in problem["detail"]
        assert model_of(server) == good
    assert len(seen) == 2
    assert min(seen.values()) > 0


def test_it_ends_gently_and_answers_what_it_has_taken(start: Start, bundled: Path) -> None:
    server = start(bundled)
    statuses: list[int] = []
    stopping = threading.Event()

    def load() -> None:
        with closing(server.connect()) as connection:
            while True:
                try:
                    statuses.append(ask(connection, "GET", "/v1/recommendations?user=a")[0])
                except (ConnectionError, http.client.HTTPException):
                    assert stopping.is_set()
                    return

    clients = [threading.Thread(target=load) for _ in range(3)]
    for each in clients:
        each.start()
    while len(statuses) < 20:
        time.sleep(0.01)
    stopping.set()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    for each in clients:
        each.join()
    assert set(statuses) == {200}


def test_it_does_not_start_on_a_bundle_that_is_damaged(bundled: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nmtr"
    content = bytearray(bundled.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    done = subprocess.run(command(broken, tmp_path / "data"), stderr=subprocess.PIPE, text=True)
    assert (done.returncode, "broken.nmtr" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_a_failure_like_any_other(
    bundled: Path, tmp_path: Path
) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = command(bundled, tmp_path / "data")
        words[words.index("--port") + 1] = str(port)
        done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "address already in use" in done.stderr
    assert f"could not be served at 127.0.0.1:{port}" in done.stderr
