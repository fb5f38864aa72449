"""A bundle with a catalogue, and services on it without a network between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient
from tests.serving.store.conftest import DATABASES, Cluster, cluster

from nmtr.data.interactions import Interactions
from nmtr.serving.bundling import write_bundle
from nmtr.serving.http.app import create_app
from nmtr.serving.http.options import Options
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.http.tokens import Tokens
from nmtr.training.run import Run, Settings, execute, open_run

__all__ = ["DATABASES", "cluster"]

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def bundled(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop's bundle: every third item costs 0, 1 or 2, and is of that category."""
    path = tmp_path_factory.mktemp("served") / "model.nmtr"
    n = finished.data.n_items
    catalogue = pl.DataFrame({
        "name": [f"thing {each}" for each in range(n)],
        "category": [f"c{each % 3}" for each in range(n)],
        "price": [float(each % 3) for each in range(n)],
    })  # fmt: skip
    write_bundle(finished, path, catalogue=catalogue)
    return path


@pytest.fixture(scope="session")
def another(
    timed: Interactions, small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle of another model of the same shop."""
    folder = tmp_path_factory.mktemp("another")
    execute(timed, small("popularity"), folder / "run")
    write_bundle(open_run(folder / "run"), folder / "model.nmtr")
    return folder / "model.nmtr"


@pytest.fixture
def database() -> str:
    """Which one a test's store is in; a module that tests both parametrizes it."""
    return "sqlite"


@pytest.fixture
def kept(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Options that say where the store is."""
    if database == "sqlite":
        return {"data": str(tmp_path / "data")}
    key = tmp_path / "key"
    key.write_text("a key that only the tests have")
    place: Cluster = request.getfixturevalue("cluster")
    return {"store": place.place(), "key_file": str(key)}


@pytest.fixture
def serve(bundled: Path, kept: dict[str, str]) -> Iterator[Serve]:
    """Starts services on one store; options by keyword, `tokens` too."""
    with ExitStack() as open_ones:

        def start(*, tokens: Tokens | None = None, **options: Any) -> TestClient:
            given: dict[str, Any] = {"bundle": str(bundled), "rate": 0.0, **kept}
            runtime = Runtime(Options(**{**given, **options}), tokens=tokens or Tokens({}))
            client = TestClient(
                create_app(runtime), base_url="http://localhost", raise_server_exceptions=False
            )
            client.headers["content-type"] = "application/json"
            client.app_state["runtime"] = runtime
            return open_ones.enter_context(client)

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()


def runtime_of(client: TestClient) -> Runtime:
    """What is behind a client."""
    found: Runtime = client.app_state["runtime"]
    return found
