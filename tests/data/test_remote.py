"""Logs behind URLs read as those on disk do, and no secret is shown or kept."""

from __future__ import annotations

import gzip
import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nmtr.cli import run
from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import load
from nmtr.data.prepare import prepare
from nmtr.data.reading.places import hide, without_secrets
from nmtr.errors import DataError, UsageError

ROWS = pl.DataFrame(
    {
        "user": [f"u{k % 7}" for k in range(40)],
        "item": [k % 5 for k in range(40)],
        "event": ["view", "buy"] * 20,
        "ts": [1_700_000_000 + k for k in range(40)],
        "price": [1.5] * 40,
    }
)


def parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://shop/log/*.parquet", "s3://shop/log/*.parquet"),
        ("s3://shop/at@noon.parquet", "s3://shop/at@noon.parquet"),
        ("postgresql://me:pw@db:5432/shop", "postgresql://me@db:5432/shop"),
        ("postgresql+psycopg://me:pw@db/shop?sslpassword=x#y", "postgresql+psycopg://me@db/shop"),
        ("mysql://me:p@s/s@db/shop", "mysql://me@db/shop"),
        ("mysql://me:p?s@db/shop", "mysql://***"),
        ("mysql://db/shop?password=a@b", "mysql://***"),
        ("https://host/log.csv?X-Amz-Signature=abc", "https://host/log.csv"),
        ("delta:https://me:pw@host/table?sig=abc", "delta:https://me@host/table"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
        ("events.csv", "events.csv"),
    ],
)
def test_a_place_is_shown_without_its_secrets(given: str, shown: str) -> None:
    assert without_secrets(given) == shown


def test_messages_of_others_lose_the_secrets_of_the_url() -> None:
    url = "mysql://me:p%40ss@db/shop?token=abc123"
    assert (
        hide(f"cannot open {url} with p@ss", url)
        == "cannot open mysql://me:***@db/shop?*** with ***"
    )


class TestObjects:
    def test_parquet_in_a_bucket_reads_as_on_disk(self, bucket: Any, tmp_path: Path) -> None:
        for k in range(2):
            data = parquet(ROWS[k * 20 : (k + 1) * 20])
            bucket.put(f"log/part-{k}.parquet", data)
            (tmp_path / f"part-{k}.parquet").write_bytes(data)
        here = read_events([tmp_path])
        for url in (f"s3://{bucket.name}/log/*.parquet", f"s3://{bucket.name}/log/"):
            there = read_events([url])
            assert there.frame.equals(here.frame)
            assert there.sources == (url,)
            assert there.report.rows_read == 40

    def test_the_command_prepares_it_alike(self, bucket: Any, tmp_path: Path) -> None:
        url = bucket.put("log.parquet", parquet(ROWS))
        (tmp_path / "log.parquet").write_bytes(parquet(ROWS))
        rest = ["--behaviors", "view,buy", "--holdout", "random", "--out"]
        assert run(["prepare", url, *rest, str(tmp_path / "there")]) == 0
        assert run(["prepare", str(tmp_path / "log.parquet"), *rest, str(tmp_path / "here")]) == 0
        there, here = load(tmp_path / "there"), load(tmp_path / "here")
        assert there.items.ids.to_list() == here.items.ids.to_list()
        assert (there.code == here.code).all()
        assert there.manifest["sources"] == [url]

    def test_text_in_a_bucket_is_streamed_by_fsspec(self, bucket: Any) -> None:
        pytest.importorskip("s3fs", reason="text in S3 needs s3fs")
        packed = gzip.compress(ROWS.write_csv().encode())
        bucket.put("log/a.csv.gz", packed)
        bucket.put("log/b.jsonl", ROWS.write_ndjson().encode())
        bucket.put("log/README.txt", b"no events")
        for url in (f"s3://{bucket.name}/log/a.csv.gz", f"s3://{bucket.name}/log/*.jsonl"):
            log = read_events([url])
            assert log.frame["item_id"].to_list() == ROWS["item"].to_list()
        both = read_events([f"buy=s3://{bucket.name}/log/*.csv.gz"])
        assert set(both.frame["behavior"]) == {"buy"}

    def test_a_broken_row_is_told_with_its_line(self, bucket: Any) -> None:
        pytest.importorskip("s3fs", reason="text in S3 needs s3fs")
        url = bucket.put("log.csv", b"user,item,event\n1,2,view\n1,2\n")
        with pytest.raises(DataError, match=r"log\.csv line 3: wrong number of fields"):
            read_events([url])

    def test_held_out_pairs_may_lie_in_a_bucket(self, bucket: Any) -> None:
        log = read_events([bucket.put("log.parquet", parquet(ROWS))])
        held = pl.DataFrame({"user": ["u0"], "item": [4]})
        url = bucket.put("test.parquet", parquet(held))
        data = prepare(log, behaviors=["view", "buy"], holdout=f"buy={url}")
        assert data.holdout == {"rule": "file", "file": f"buy={url}", "seed": 0}

    @pytest.mark.parametrize("key", ["none.parquet", "none/*.parquet", "none/", "none.csv"])
    def test_what_is_not_there_is_a_usage_error(
        self, bucket: Any, key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        url = f"s3://{bucket.name}/{key}"
        if key.endswith("csv"):
            pytest.importorskip("s3fs", reason="text in S3 needs s3fs")
        assert run(["prepare", url, "--behaviors", "buy", "--out", str(tmp_path / "d")]) == 2
        assert "nothing there" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_key_that_may_not_read_is_told(self, bucket: Any) -> None:
        url = bucket.put("log.parquet", parquet(ROWS))
        bucket.lock()
        with pytest.raises(
            DataError, match=r"no permission.*credentials in the environment"
        ) as told:
            read_events([url])
        assert "a-secret-of-the-tests" not in str(told.value)

    def test_columns_and_bytes_that_are_none(self, bucket: Any) -> None:
        url = bucket.put("log.parquet", parquet(ROWS.rename({"item": "thing"})))
        with pytest.raises(DataError, match="expected a item column"):
            read_events([url])
        with pytest.raises(UsageError, match="--item 'nothing' is not there"):
            read_events([url], ReadOptions(item="nothing"))
        with pytest.raises(DataError, match="expected a readable table"):
            read_events([bucket.put("broken.parquet", b"PAR1 and no more")])
        with pytest.raises(DataError, match="expected events, got none"):
            read_events([bucket.put("empty.parquet", parquet(ROWS.clear()))])

    def test_a_host_that_does_not_answer_is_told(
        self, bucket: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        hasty = partial(pl.scan_parquet, storage_options={"max_retries": 0})
        monkeypatch.setattr(pl, "scan_parquet", hasty)
        with pytest.raises(DataError, match=r"s3://nowhere/log\.parquet: .*127\.0\.0\.1:9"):
            read_events(["s3://nowhere/log.parquet"])


class TestFileSystems:
    def test_any_file_system_of_fsspec_is_read(self) -> None:
        import fsspec

        system = fsspec.filesystem("memory")
        system.pipe("/shop/a.csv", ROWS.write_csv().encode())
        system.pipe("/shop/b.parquet", parquet(ROWS))
        system.pipe("/shop/_SUCCESS", b"")
        log = read_events(["memory://shop/*.csv", "memory://shop/b.parquet"])
        assert log.frame.height == 80
        assert log.sources == ("memory:///shop/a.csv", "memory:///shop/b.parquet")
        assert read_events(["memory://shop"]).frame.height == 80

    def test_a_package_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(UsageError, match=r"gs://shop/log\.csv: .*gcsfs"):
            read_events(["gs://shop/log.csv"])

    def test_a_glob_on_a_host_that_does_not_answer_is_no_empty_glob(self) -> None:
        pytest.importorskip("requests", reason="webhdfs needs requests")
        with pytest.raises(DataError, match=r"cannot be read: ConnectionError.*refused"):
            read_events(["webhdfs://127.0.0.1:9/log/*.csv"])

    def test_a_scheme_that_nothing_knows(self) -> None:
        with pytest.raises(UsageError, match=r"file system that fsspec knows .* or a database"):
            read_events(["gopher://shop/log"], ReadOptions(table="log"))

    def test_a_file_url_is_a_path(self, tmp_path: Path) -> None:
        ROWS.write_csv(tmp_path / "log.csv")
        assert read_events([f"file://{tmp_path}/log.csv"]).frame.height == 40

    def test_a_variable_that_is_empty_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SHOP_LOG", raising=False)
        with pytest.raises(UsageError, match="environment variable SHOP_LOG, it is empty"):
            read_events(["env:SHOP_LOG"])


class TestTables:
    def test_a_delta_table_gives_its_rows_and_not_those_that_it_deleted(
        self, tmp_path: Path
    ) -> None:
        pytest.importorskip("deltalake", reason="Delta tables need deltalake")
        ROWS.write_delta(tmp_path / "log")
        ROWS.head(10).write_delta(tmp_path / "log", mode="overwrite")
        for given in (f"delta:{tmp_path}/log", tmp_path / "log"):
            log = read_events([given])
            assert sorted(log.frame["timestamp"]) == [(1_700_000_000 + k) * 1000 for k in range(10)]
            assert log.sources == (f"delta:{tmp_path}/log",)
        with pytest.raises(UsageError, match="nothing there"):
            read_events([f"delta:{tmp_path}/none"])

    def test_a_delta_table_in_a_bucket(self, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("deltalake", reason="Delta tables need deltalake")
        url = f"s3://{bucket.name}/log"
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        ROWS.write_delta(url)
        log = read_events([f"delta:{url}"])
        assert log.frame.height == 40

    @pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
    def test_an_iceberg_table_by_its_metadata_and_by_its_catalog(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("pyiceberg", reason="Iceberg tables need pyiceberg")
        pytest.importorskip("pyarrow", reason="Iceberg tables need pyarrow")
        from pyiceberg.catalog import load_catalog
        from pyiceberg.utils.config import Config

        settings = {"TYPE": "sql", "URI": f"sqlite:///{tmp_path}/catalog.db"}
        settings["WAREHOUSE"] = f"file://{tmp_path}/warehouse"
        for name, value in settings.items():
            monkeypatch.setenv(f"PYICEBERG_CATALOG__DEFAULT__{name}", value)
        monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())  # it was read on import
        catalog = load_catalog()
        catalog.create_namespace("shop")
        table = catalog.create_table("shop.log", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        for given in (f"iceberg:{table.metadata_location}", "iceberg:shop.log"):
            log = read_events([given])
            assert log.frame["item_id"].to_list() == ROWS["item"].to_list(), json.dumps(given)
        with pytest.raises(DataError, match=r"iceberg:shop\.none"):
            read_events(["iceberg:shop.none"])

    def test_a_missing_package_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "deltalake", None)
        with pytest.raises(UsageError, match=r"pip install 'nmtr\[lakes\]'"):
            read_events([f"delta:{tmp_path}"])
