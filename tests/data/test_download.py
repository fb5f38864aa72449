"""A download ends with the right file under its name or with none, whatever the network does."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nmtr.data.download import fetch
from nmtr.errors import DamagedError, NmtrError, UsageError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; each request takes the next fault, if any is left, and notes its Range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[str] = []
        self.ranges: list[str | None] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/owner/repo/file.bin"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed breaks the pipe: no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault.isdecimal():
            self.send_error(int(fault))
            return
        start = 0 if asked is None or fault.startswith("ignore range") else int(asked[6:-1])
        if start >= len(CONTENT):
            self.send_error(416)
            return
        content = CONTENT[start:]
        if fault == "corrupt":
            content = content[:-1] + b"?"
        self.send_response(206 if start else 200)
        if start:
            shift = 7 if fault == "wrong place" else 0
            self.send_header(
                "Content-Range", f"bytes {start + shift}-{len(CONTENT) - 1}/{len(CONTENT)}"
            )
        if fault != "no length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "drop at once":
            return
        self.wfile.write(content[: len(content) // 2])
        if fault == "stall":
            self.wfile.flush()
            self.server.released.wait(10)
        if not fault.endswith(("drop", "stall")):
            self.wfile.write(content[len(content) // 2 :])

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def download(server: Server, folder: Path, **options: Any) -> Path:
    return fetch(server.url, folder / "file.bin", sha256=SHA256, backoff=0.001, **options)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("faults", [[], ["no length"]])
def test_a_download_leaves_the_file_and_nothing_else(
    server: Server, tmp_path: Path, faults: list[str]
) -> None:
    server.faults = faults
    path = download(server, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert listing(path.parent) == ["file.bin"]


def test_a_dropped_connection_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop", "drop"]
    assert download(server, tmp_path).read_bytes() == CONTENT
    half, quarters = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert server.ranges == [None, f"bytes={half}-", f"bytes={quarters}-"]


def test_a_part_of_an_earlier_run_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert listing(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("fault", ["ignore range", "wrong place"])
def test_a_server_that_cannot_resume_is_asked_for_the_whole(
    server: Server, tmp_path: Path, fault: str
) -> None:
    server.faults = ["drop", fault]
    assert download(server, tmp_path).read_bytes() == CONTENT


def test_many_breaks_are_borne_while_bytes_arrive(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop"] * 8
    assert download(server, tmp_path, attempts=2).read_bytes() == CONTENT


def test_a_connection_without_bytes_is_given_up_and_the_part_kept(
    server: Server, tmp_path: Path
) -> None:
    server.faults = ["drop"] + ["drop at once"] * 10
    with pytest.raises(NmtrError, match=rf"{server.url}: .*3 times in a row.*try again") as raised:
        download(server, tmp_path, attempts=3)
    assert str(len(CONTENT) // 2) in str(raised.value)
    assert len(server.ranges) == 3
    assert listing(tmp_path) == ["file.bin.part"]


def test_a_server_that_restarts_and_breaks_forever_is_given_up(
    server: Server, tmp_path: Path
) -> None:
    server.faults = ["ignore range and drop"] * 10
    with pytest.raises(NmtrError, match="3 times in a row"):
        download(server, tmp_path, attempts=3)
    assert len(server.ranges) == 3


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = ["503", "429", "500"]
    assert download(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", ["404", "403", "410"])
def test_a_refusal_is_final_and_said(server: Server, tmp_path: Path, status: str) -> None:
    server.faults = [status]
    with pytest.raises(NmtrError, match=rf"{server.url}: .*{status} .*base_url"):
        download(server, tmp_path)
    assert len(server.ranges) == 1
    assert listing(tmp_path) == []


def test_a_wrong_content_never_gets_the_name(server: Server, tmp_path: Path) -> None:
    server.faults = ["corrupt"]
    with pytest.raises(
        DamagedError, match=rf"file\.bin\S*: expected sha256 {SHA256}, got \w{{64}}"
    ):
        download(server, tmp_path)
    assert listing(tmp_path) == []
    assert download(server, tmp_path).read_bytes() == CONTENT


def test_a_verified_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert download(server, tmp_path) == tmp_path / "file.bin"
    assert server.ranges == []


def test_a_file_that_was_altered_is_reported_and_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"edited")
    with pytest.raises(DamagedError, match=rf"file\.bin: .*{SHA256}.*delete it and try again"):
        download(server, tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"edited"
    assert server.ranges == []


@pytest.mark.parametrize("excess", [b"", b"too much"])
def test_a_part_as_long_as_the_file_is_checked_before_it_is_trusted(
    server: Server, tmp_path: Path, excess: bytes
) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + excess)
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == (2 if excess else 1)


def test_a_kill_leaves_only_a_part_that_the_next_run_completes(
    server: Server, tmp_path: Path
) -> None:
    server.faults = ["stall"]
    script = (
        "import pathlib, sys; from nmtr.data.download import fetch;"
        "fetch(sys.argv[1], pathlib.Path(sys.argv[2]), sha256=sys.argv[3])"
    )
    part = tmp_path / "file.bin.part"
    with subprocess.Popen(
        [sys.executable, "-c", script, server.url, str(tmp_path / "file.bin"), SHA256]
    ) as process:
        deadline = time.monotonic() + 9
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 70_000):
            time.sleep(0.01)
        process.kill()
    assert listing(tmp_path) == ["file.bin.part"]
    had = part.stat().st_size
    assert 0 < had < len(CONTENT)
    assert CONTENT.startswith(part.read_bytes())
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={had}-"]


def test_a_silent_server_times_out_and_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = ["stall"]
    assert download(server, tmp_path, timeout=0.1).read_bytes() == CONTENT


def test_progress_rises_to_the_size_of_the_file(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop"]
    calls: list[tuple[str, int, int]] = []
    download(server, tmp_path / "view", progress=lambda *call: calls.append(call))
    assert {(name, total) for name, _, total in calls} == {("view/file.bin", len(CONTENT))}
    done = [done for _, done, _ in calls]
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)


def test_a_server_that_is_not_there_is_said(server: Server, tmp_path: Path) -> None:
    url = server.url.replace(str(server.server_port), "1")
    with pytest.raises(NmtrError, match=rf"{url}: .*2 times in a row.*check the network"):
        fetch(url, tmp_path / "file.bin", sha256=SHA256, attempts=2, backoff=0.001)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/file.bin", "file.bin"])
def test_only_http_is_spoken(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match=f"expected an address .*{url}"):
        fetch(url, tmp_path / "file.bin", sha256=SHA256)


def test_a_folder_that_cannot_be_made_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NmtrError, match=r"taken.*cannot be written.*choose another folder"):
        download(server, tmp_path / "taken")
