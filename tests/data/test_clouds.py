"""Azure and Google Cloud Storage by servers that stand for them, where those are installed.

Azurite (`npm install -g azurite`) and fake-gcs-server are looked for on the PATH.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from nmtr.data.events import read_events
from nmtr.errors import UsageError

ROWS = pl.DataFrame(
    {
        "user": [f"u{k % 7}" for k in range(40)],
        "item": [k % 5 for k in range(40)],
        "event": ["view", "buy"] * 20,
        "ts": [1_700_000_000 + k for k in range(40)],
    }
)
Put = Callable[[str, bytes], None]
# Azurite's account for everybody, from its manual.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
ACCOUNT = "devstoreaccount1"


def parquet() -> bytes:
    stream = io.BytesIO()
    ROWS.write_parquet(stream)
    return stream.getvalue()


@contextmanager
def running(program: str, *words: str) -> Iterator[str]:
    """The URL of a server that is started with its port."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [found, *(word.replace("PORT", port) for word in words)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"{program} did not answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    words = ["--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    with running("azurite-blob", *words, "--blobPort", "PORT") as url:
        yield url


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    words = ["-scheme", "http", "-host", "127.0.0.1", "-port", "PORT", "-backend", "memory"]
    with running("fake-gcs-server", *words, "-public-host", "127.0.0.1:PORT") as url:
        yield url


@pytest.fixture
def azure(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Put:
    blobs = pytest.importorskip("azure.storage.blob", reason="needs azure-storage-blob")
    parts = {"DefaultEndpointsProtocol": "http", "AccountName": ACCOUNT, "AccountKey": KEY}
    parts["BlobEndpoint"] = f"{azurite}/{ACCOUNT}"
    connection = "".join(f"{name}={value};" for name, value in parts.items())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", azurite)
    container = blobs.BlobServiceClient.from_connection_string(connection)
    container = container.get_container_client("shop")
    if not container.exists():
        container.create_container()

    def put(name: str, data: bytes) -> None:
        container.upload_blob(name, data, overwrite=True)

    return put


@pytest.fixture
def store(google: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    account = {"gcs_base_url": google, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))

    def post(path: str, data: bytes) -> None:
        asked = urllib.request.Request(google + path, data=data, method="POST")
        asked.add_header("Content-Type", "application/json")
        urllib.request.urlopen(asked).read()

    with urllib.request.urlopen(f"{google}/storage/v1/b?project=any") as answer:
        if not json.load(answer).get("items"):
            post("/storage/v1/b?project=any", b'{"name": "shop"}')
    upload = "/upload/storage/v1/b/shop/o?uploadType=media&name="
    return lambda name, data: post(upload + name, data)


@pytest.mark.parametrize("scheme", ["az", "abfss"])
def test_parquet_in_azure_reads_as_on_disk(azure: Put, scheme: str) -> None:
    for name in "ab":
        azure(f"log/{name}.parquet", parquet())
    for url, files in (
        (f"{scheme}://shop/log/a.parquet", 1),
        (f"{scheme}://shop/log/*.parquet", 2),
    ):
        log = read_events([url])
        assert log.frame["item_id"].to_list() == ROWS["item"].to_list() * files
        assert log.sources == (url,)
    with pytest.raises(UsageError, match="nothing there"):
        read_events([f"{scheme}://shop/none.parquet"])


def test_text_in_azure_is_streamed(azure: Put) -> None:
    pytest.importorskip("adlfs", reason="text in Azure needs adlfs")
    azure("text/a.csv", ROWS.write_csv().encode())
    azure("text/b.csv.gz", gzip.compress(ROWS.write_csv().encode()))
    assert read_events(["az://shop/text/*.csv"]).frame.height == 40
    assert read_events(["az://shop/text/b.csv.gz"]).frame["item_id"].to_list() == list(ROWS["item"])
    with pytest.raises(UsageError, match="nothing there"):
        read_events(["az://shop/none.csv"])


def test_parquet_in_google_cloud_reads_as_on_disk(
    store: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)  # it asks Google who this is
    for name in "ab":
        store(f"log/{name}.parquet", parquet())
    for url, files in (("gs://shop/log/a.parquet", 1), ("gs://shop/log/", 2)):
        log = read_events([url])
        assert log.frame["item_id"].to_list() == ROWS["item"].to_list() * files
        assert log.sources == (url,)
    with pytest.raises(UsageError, match="nothing there"):
        read_events(["gs://shop/none.parquet"])


def test_text_in_google_cloud_is_streamed(store: Put) -> None:
    pytest.importorskip("gcsfs", reason="text in Google Cloud needs gcsfs")
    store("text/a.csv", ROWS.write_csv().encode())
    store("text/b.csv.gz", gzip.compress(ROWS.write_csv().encode()))
    assert read_events(["gs://shop/text/*.csv"]).frame.height == 40
    assert read_events(["gs://shop/text/b.csv.gz"]).frame["item_id"].to_list() == list(ROWS["item"])
    with pytest.raises(UsageError, match="nothing there"):
        read_events(["gs://shop/none.csv"])
