"""Stores to test: each test that asks for `place` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from nmtr.serving.store import Store

KEY = b"a key that only the tests have"
DATABASES = ("sqlite", "postgres")


@dataclass(frozen=True)
class Cluster:
    """A throw-away PostgreSQL on a Unix socket in its own folder."""

    programs: Path
    folder: Path
    user: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@/postgres?host={self.folder}"

    def make(self) -> None:
        self._run("initdb", "-D", self.data, "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as stream:
            stream.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\n"
                "autovacuum = off\nshared_buffers = 16MB\nmax_connections = 60\n"
            )

    def start(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def place(self) -> str:
        """The URL of a schema of its own, which is made faster than a database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE SCHEMA {name}")
        return f"{self.url}&options=-csearch_path%3D{name}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str | Path) -> None:
        as_user: dict[str, Any] = {"user": self.user} if os.getuid() == 0 else {}
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", **as_user
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    folder = Path(tempfile.mkdtemp(prefix="nmtr-pg-"))  # short: a socket's path has a limit
    try:
        if os.getuid() == 0:
            shutil.chown(folder, user)  # PostgreSQL refuses to run as root
        made = Cluster(programs, folder, user)
        made.make()
        made.start()
        yield made
        made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl: Debian's newest, or the one on the path."""
    there = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(there, key=lambda path: float(path.parts[-3]), default=shutil.which("initdb"))
    return Path(newest).parent if newest else None


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store that is not there yet may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.place()


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    """Opens stores with the tests' key, and closes them after the test."""
    opened: list[Store] = []

    def opener(place: str | Path, **options: Any) -> Store:
        opened.append(Store(place, **{"key": KEY, **options}))
        return opened[-1]

    yield opener
    for each in opened:
        each.close()


@pytest.fixture
def store(place: str, open_store: Callable[..., Store]) -> Store:
    return open_store(place)
