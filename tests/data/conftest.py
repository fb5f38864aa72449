"""Servers to read from: an S3 of moto's, and a real PostgreSQL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from tests.serving.store.conftest import cluster

__all__ = ["bucket", "cluster", "s3_server"]

NEEDED = ("moto", "boto3", "flask", "flask_cors")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of its own, and the server's address."""

    name: str
    address: str
    client: Any

    def put(self, key: str, data: bytes) -> str:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"s3://{self.name}/{key}"

    def lock(self) -> None:
        """From now on only known keys may read, and there is none."""
        self._control("reset-auth", "0")

    def unlock(self) -> None:
        self._control("reset-auth", "inf")

    def _control(self, action: str, body: str) -> None:
        request = urllib.request.Request(
            f"{self.address}/moto-api/{action}",
            data=body.encode(),
            method="POST",
            headers={"Content-Type": "text/plain"},
        )
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"an S3 to test on needs {', '.join(missing)}: pip install 'nmtr[dev]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment, nowhere = {**os.environ, **CREDENTIALS}, subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere) as server:
        try:
            _wait_for(f"{address}/moto-api/data.json", server)
            yield address
        finally:
            server.kill()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                json.load(answer)
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, "moto's server ended"
            assert time.monotonic() < until, "moto's server does not answer"
            time.sleep(0.05)


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    import boto3

    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    made = Bucket(f"shop-{os.urandom(4).hex()}", s3_server, boto3.client("s3"))
    made.client.create_bucket(Bucket=made.name)
    yield made
    made.unlock()
