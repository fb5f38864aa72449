"""A named set comes out of its published files in one layout, the one the real sets have."""

import hashlib
import os
import pickle
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from nmtr.data import datasets
from nmtr.data.datasets import CATALOGUE, DataSet, get
from nmtr.errors import DamagedError, NmtrError, UsageError

REAL = Path(os.environ.get("NMTR_DATA", Path(__file__).parents[3] / "shared" / "data"))
VIEWS = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1]])
CARTS = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]])
BUYS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


class Site:
    """A mirror on 127.0.0.1 that publishes other files under the addresses of the catalogue."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def publish(
        self, name: str, files: Mapping[str, bytes], *, users: int = 3, items: int = 4
    ) -> Mapping[str, DataSet]:
        """Put `files`, keyed by the last two parts of their paths; return their catalogue."""
        real = CATALOGUE[name]
        sources = []
        for source in real.sources:
            content = files["/".join(source.path.split("/")[-2:])]
            path = self.folder / source.address
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            sources.append(replace(source, sha256=hashlib.sha256(content).hexdigest()))
        return {name: replace(real, users=users, items=items, sources=tuple(sources))}


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path_factory.mktemp("site")
    handler = partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Site(folder, f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()


def pickled(matrix: Any) -> bytes:
    return pickle.dumps(sp.csr_matrix(matrix))


def npz(matrix: Any) -> bytes:
    buffer = BytesIO()
    sp.save_npz(buffer, sp.csr_matrix(matrix))
    return buffer.getvalue()


def beibei(**files: bytes) -> dict[str, bytes]:
    return {
        "beibei/trn_pv": pickled(VIEWS),
        "beibei/trn_cart": pickled(CARTS),
        "beibei/trn_buy": pickled(BUYS),
        "Beibei/test.txt": b"0 3\n1 2\n2 0\n",
        **{name.replace("__", "/"): content for name, content in files.items()},
    }


def tmall(adjacency: Any) -> dict[str, bytes]:
    return {
        "view/s_adj_mat.npz": npz(adjacency),
        "view/test.txt": b"0\t2\n1\t3\n2\t3\n",
        "cart/train.txt": b"0\t1\n1\t1\t2\n2\n",
        "cart/test.txt": b"0\t3\n1\t0\n2\t0\n",
        "buy/train.txt": b"0\t0\t1\n1\t1\n2\t3\n",
        "buy/test.txt": b"0\t3\n1\t2\n\n2\t0",
    }


def bipartite(block: Any) -> Any:
    users, items = block.shape
    return np.block([[np.zeros((users, users)), block], [block.T, np.zeros((items, items))]])


def pairs(folder: Path, behavior: str, part: str = "events") -> list[tuple[int, ...]]:
    table = pl.read_parquet(folder / f"{part}.parquet").filter(pl.col("behavior") == behavior)
    return table.drop("behavior").rows()


def test_beibei_is_made_of_pickled_matrices_and_a_list(site: Site, tmp_path: Path) -> None:
    catalogue = site.publish("beibei", beibei())
    assert get("beibei", tmp_path / "b", base_url=site.url, catalogue=catalogue) == tmp_path / "b"
    out = tmp_path / "b"
    assert pairs(out, "view") == [(0, 0), (0, 1), (0, 3), (1, 1), (1, 2), (2, 0), (2, 3)]
    assert pairs(out, "cart") == [(0, 0), (0, 3), (1, 1), (2, 3)]
    assert pairs(out, "buy") == [(0, 0), (1, 1), (2, 3)]
    assert pairs(out, "buy", "test") == [(0, 3), (1, 2), (2, 0)]
    assert sorted(path.name for path in out.iterdir()) == [
        "downloads",
        "events.parquet",
        "test.parquet",
    ]


def test_tmall_views_are_the_upper_right_block_and_one_more_of_each_user(
    site: Site, tmp_path: Path
) -> None:
    catalogue = site.publish("tmall", tmall(bipartite(VIEWS)))
    get("tmall", tmp_path, base_url=site.url, catalogue=catalogue)
    # 2 looked at 3 in both files: one record.
    assert pairs(tmp_path, "view") == [
        *[(0, 0), (0, 1), (0, 2), (0, 3)],
        *[(1, 1), (1, 2), (1, 3)],
        *[(2, 0), (2, 3)],
    ]
    assert pairs(tmp_path, "cart") == [(0, 1), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert pairs(tmp_path, "buy") == [(0, 0), (0, 1), (1, 1), (2, 3)]
    assert pairs(tmp_path, "buy", "test") == [(0, 3), (1, 2), (2, 0)]


@pytest.mark.parametrize("unit", [1, 1000])
def test_retailrocket_times_are_the_values_in_seconds(
    site: Site, tmp_path: Path, unit: int
) -> None:
    start = 1_433_222_000
    files = {
        f"retail_rocket/train_mat_{name}.pkl": pickled(matrix * float((start + shift) * unit))
        for shift, (name, matrix) in enumerate({"view": VIEWS, "cart": CARTS, "buy": BUYS}.items())
    }
    held_out = sp.coo_matrix(([1, 1], ([2, 0], [0, 3])), shape=(3, 4))
    files["retail_rocket/test_mat.pkl"] = pickle.dumps(held_out)
    catalogue = site.publish("retailrocket", files)
    get("retailrocket", tmp_path, base_url=site.url, catalogue=catalogue)
    assert pairs(tmp_path, "cart") == [
        (user, item, start + 1) for user, item in [(0, 0), (0, 3), (1, 1), (2, 3)]
    ]
    assert pairs(tmp_path, "buy", "test") == [(0, 3), (2, 0)]


def test_times_that_are_none_are_refused(site: Site, tmp_path: Path) -> None:
    files = {f"retail_rocket/train_mat_{b}.pkl": pickled(-BUYS) for b in ("view", "cart", "buy")}
    files["retail_rocket/test_mat.pkl"] = pickled(BUYS)
    catalogue = site.publish("retailrocket", files)
    with pytest.raises(DamagedError, match=r"train_mat_view\.pkl: expected unix times .*-1"):
        get("retailrocket", tmp_path, base_url=site.url, catalogue=catalogue)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real data sets in {REAL} (NMTR_DATA)")
@pytest.mark.parametrize("name", ["beibei", "retailrocket"])
def test_the_real_set_survives_the_round_trip(site: Site, tmp_path: Path, name: str) -> None:
    """Back into the published formats, served, fetched: the same rows and the same schema."""
    chosen = pl.col("user_id") < 300
    events = pl.read_parquet(REAL / name / "events.parquet").filter(chosen)
    test = pl.read_parquet(REAL / name / "test.parquet").filter(chosen)
    real = CATALOGUE[name]
    published = {}
    for source in real.sources:
        table = events if source.part == "events" else test
        table = table.filter(pl.col("behavior") == source.behavior)
        users, items = table["user_id"].to_numpy(), table["item_id"].to_numpy()
        values = table["timestamp"].to_numpy() if "timestamp" in table.columns else users * 0 + 1
        matrix = sp.coo_matrix((values, (users, items)), shape=(real.users, real.items))
        if source.format == "pickle":
            content = pickle.dumps(matrix.tocsr())
        else:
            content = "".join(f"{user} {item}\n" for user, item, *_ in table.rows()).encode()
        published["/".join(source.path.split("/")[-2:])] = content
    catalogue = site.publish(name, published, users=real.users, items=real.items)
    get(name, tmp_path, base_url=site.url, catalogue=catalogue)
    for part, expected in (("events", events), ("test", test)):
        got = pl.read_parquet(tmp_path / f"{part}.parquet")
        assert got.schema == expected.schema
        assert got.height == expected.height
        assert set(got.rows()) == set(expected.rows())


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real data sets in {REAL} (NMTR_DATA)")
def test_tmall_has_the_schema_of_the_real_set(site: Site, tmp_path: Path) -> None:
    catalogue = site.publish("tmall", tmall(bipartite(VIEWS)))
    get("tmall", tmp_path, base_url=site.url, catalogue=catalogue)
    for part in ("events.parquet", "test.parquet"):
        assert pl.read_parquet_schema(tmp_path / part) == pl.read_parquet_schema(
            REAL / "tmall" / part
        )


def test_a_second_call_needs_no_network(site: Site, tmp_path: Path) -> None:
    catalogue = site.publish("beibei", beibei())
    get("beibei", tmp_path, base_url=site.url, catalogue=catalogue)
    (tmp_path / "events.parquet").unlink()
    get("beibei", tmp_path, base_url="http://127.0.0.1:1", catalogue=catalogue)
    assert len(pairs(tmp_path, "buy")) == 3


def test_a_missing_file_is_fetched_and_the_others_kept(site: Site, tmp_path: Path) -> None:
    catalogue = site.publish("beibei", beibei())
    absent = site.folder / catalogue["beibei"].sources[3].address
    content = absent.read_bytes()
    absent.unlink()
    with pytest.raises(NmtrError, match=r"Data/Beibei/test\.txt: the server answered 404"):
        get("beibei", tmp_path, base_url=site.url, catalogue=catalogue)
    assert not list(tmp_path.glob("*.parquet"))
    absent.write_bytes(content)
    calls: list[str] = []
    get(
        "beibei",
        tmp_path,
        base_url=site.url,
        catalogue=catalogue,
        progress=lambda name, done, total: calls.append(f"{name} {done}/{total}"),
    )
    assert calls == [f"Beibei/test.txt {len(content)}/{len(content)}"]


def test_published_files_that_changed_are_refused(site: Site, tmp_path: Path) -> None:
    site.publish("beibei", beibei())
    real = CATALOGUE["beibei"].sources[0].sha256
    with pytest.raises(DamagedError, match=f"trn_pv.*expected sha256 {real}, got .*try again"):
        get("beibei", tmp_path, base_url=site.url)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"beibei__trn_buy": pickle.dumps(Evil())}, r"trn_buy: .*asks for \w+\.getcwd"),
        ({"beibei__trn_buy": pickled(BUYS.T)}, r"trn_buy: expected users 0 to 2, got 0 to 3"),
        ({"Beibei__test.txt": b"0 3\n1 4\n"}, r"test\.txt: expected items 0 to 3, got 3 to 4"),
        ({"Beibei__test.txt": b"0 3\n1 -1\n"}, r"test\.txt: expected items 0 to 3, got -1 to 3"),
        ({"Beibei__test.txt": b"0 3\n1 x\n"}, r"test\.txt line 2: expected whole numbers, .*1 x"),
        ({"Beibei__test.txt": b"0 9999999999\n"}, r"test\.txt line 1: expected whole numbers"),
        ({"Beibei__test.txt": b"\x80\xff"}, r"test\.txt line 1: expected whole numbers"),
    ],
)
def test_content_that_makes_no_data_set_is_refused(
    site: Site, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    catalogue = site.publish("beibei", beibei(**files))
    with pytest.raises(DamagedError, match=message):
        get("beibei", tmp_path, base_url=site.url, catalogue=catalogue)
    assert not list(tmp_path.glob("*.parquet*"))


@pytest.mark.parametrize("adjacency", [np.ones((7, 7)), bipartite(VIEWS)[:, :6], VIEWS])
def test_an_adjacency_that_links_users_to_users_is_refused(
    site: Site, tmp_path: Path, adjacency: Any
) -> None:
    catalogue = site.publish("tmall", tmall(adjacency))
    with pytest.raises(DamagedError, match=r"s_adj_mat\.npz: expected a square matrix"):
        get("tmall", tmp_path, base_url=site.url, catalogue=catalogue)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_source_is_pinned(name: str) -> None:
    sources = CATALOGUE[name].sources
    assert {source.part for source in sources} == {"events", "test"}
    assert len({source.path for source in sources}) == len(sources)  # they share one folder
    for source in sources:
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
        assert re.fullmatch(r"[0-9a-f]{40}", source.commit)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository)
        assert source.format in datasets.READERS


def test_names_are_those_that_can_be_downloaded() -> None:
    assert tuple(CATALOGUE) == ("beibei", "tmall", "retailrocket")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (
            "otto",
            "nmtr prepare otto-recsys-train.jsonl --behaviors clicks,carts,orders --out DIR",
        ),
        (
            "retailrocket-raw",
            "nmtr prepare events.csv --behaviors view,cart,buy "
            "--map addtocart=cart,transaction=buy --out DIR",
        ),
    ],
)
def test_a_set_behind_an_account_says_where_it_is_and_what_to_run(
    tmp_path: Path, name: str, command: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(command)) as raised:
        get(name, tmp_path / "out")
    assert "https://www.kaggle.com/datasets/" in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_is_answered_with_the_known(tmp_path: Path) -> None:
    known = "unknown data set 'taobao'; one of beibei, tmall, retailrocket, otto, retailrocket-raw"
    with pytest.raises(UsageError, match=known):
        get("taobao", tmp_path)
