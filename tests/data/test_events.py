"""An event log is read as it came: nothing is lost uncounted, nothing is guessed in silence."""

import contextlib
import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmtr.data.events import EventLog, ReadOptions, from_frame, read_events
from nmtr.data.reading import sources
from nmtr.errors import DataError, NmtrError, UsageError

DROP = ReadOptions(malformed="drop")
DATA = Path(os.environ.get("NMTR_DATA", Path(__file__).parents[3] / "shared" / "data"))
relaxed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: str | bytes, name: str = "log.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def read(path: Path, **options: Any) -> EventLog:
    return read_events([path], ReadOptions(**options))


def balance(log: EventLog) -> None:
    assert log.report.rows_read == log.frame.height + sum(log.report.dropped.values())


HEAD = "user_id,item_id,behavior\n"


class TestForms:
    def test_retailrocket_reads_as_published(self, write: Write) -> None:
        log = read(
            write(
                "timestamp,visitorid,event,itemid,transactionid\n"
                "1433221332117,257597,view,355908,\n"
                "1433224214164,992329,addtocart,248676,\n"
                "1433222276276,599528,transaction,356475,4000\n",
                "events.csv",
            ),
            rename={"transaction": "buy", "addtocart": "cart"},
            behaviors=("view", "cart", "buy"),
        )
        assert log.frame.rows() == [
            (257597, 355908, "view", False, 1433221332117),
            (992329, 248676, "cart", False, 1433224214164),
            (599528, 356475, "buy", False, 1433222276276),
        ]
        assert log.report.notes == ["timestamps read as milliseconds"]

    def test_otto_sessions_are_users_and_their_events_rows(self, write: Write) -> None:
        log = read(
            write(
                '{"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"},'
                ' {"aid": 1563459, "ts": 1659304904511, "type": "carts"}]}\n'
                '{"session": 1, "events": []}\n'
                '{"session": 2, "events": [{"aid": 9, "ts": 1659304800033, "type": "orders"}]}\n',
                "train.jsonl",
            )
        )
        assert log.frame.rows() == [
            (0, 1517085, "clicks", False, 1659304800025),
            (0, 1563459, "carts", False, 1659304904511),
            (2, 9, "orders", False, 1659304800033),
        ]

    @pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
    def test_the_delimiter_is_found(self, write: Write, delimiter: str) -> None:
        text = "User ID,sku,Action\n1,2,view\n".replace(",", delimiter)
        assert read(write(text)).frame.rows() == [(1, 2, "view", False)]

    def test_quotes_may_hold_delimiters_and_line_ends(self, write: Write) -> None:
        text = 'user,item,title,event\r\n"1","a,b","two\r\nlines","view"\r\n2,c,"5"" nail",buy\r\n'
        rows = [("1", "a,b", "view"), ("2", "c", "buy")]
        found = read(write(text)).frame.with_columns(pl.col("user_id").cast(pl.String)).rows()
        assert [row[:3] for row in found] == rows

    def test_a_lone_quote_inside_a_field_is_a_character(self, write: Write) -> None:
        assert read(write(HEAD + '1,5" nail,buy\n')).frame["item_id"].to_list() == ['5" nail']

    def test_a_file_without_header_takes_names(self, write: Write) -> None:
        log = read(
            write("7::1\n".replace("::", " view "), "u.data"), columns=("uid", "type", "sku")
        )
        assert log.frame.rows() == [(7, 1, "view", False)]

    @pytest.mark.parametrize("packing", [".gz", ".zst"])
    def test_packed_text_is_unpacked(self, write: Write, packing: str) -> None:
        plain = (HEAD + "1,2,view\n").encode()
        if packing == ".gz":
            packed = gzip.compress(plain)
        else:
            zstandard = pytest.importorskip("zstandard", reason="needs the package zstandard")
            packed = zstandard.compress(plain[:30]) + zstandard.compress(plain[30:])
        assert read(write(packed, f"log.csv{packing}")).frame.height == 1
        with pytest.raises(DataError, match="cut short"):
            read(write(packed[:-6], f"log.csv{packing}"))
        with pytest.raises(DataError, match="other bytes"):
            read(write(plain, f"log.csv{packing}"))

    def test_a_folder_is_read_by_name_and_in_order(self, write: Write, tmp_path: Path) -> None:
        write(HEAD + "2,2,buy\n", "b.csv")
        write('{"user": 1, "item": 1, "event": "view"}\n', "a.jsonl")
        write("not events", "README.txt")
        log = read_events([tmp_path, tmp_path / "*.csv"], ReadOptions())
        assert log.frame["user_id"].to_list() == [1, 2]
        assert any("README.txt" in note for note in log.report.notes)
        assert any("read once" in note for note in log.report.notes)

    def test_blocks_join_into_the_file(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [f'{k},"i\n{k}",view' for k in range(300)]
        path = write(HEAD + "\n".join(rows) + "\nx,y\n")
        whole = sources.line_blocks

        def small(source: sources.Source, *, quoted: bool, size: int = 100) -> Any:
            return whole(source, quoted=quoted, size=size)

        monkeypatch.setattr("nmtr.data.reading.delimited.line_blocks", small)
        with pytest.raises(DataError, match=r"log.csv line 602: .*expected 3 fields, got 2"):
            read(path)
        log = read(path, malformed="drop")
        assert log.frame["item_id"].to_list() == [f"i\n{k}" for k in range(300)]
        balance(log)


class TestIds:
    @pytest.mark.parametrize(
        ("texts", "ids"),
        [
            (["42", "-7", "0"], [42, -7, 0]),
            (["42", "042"], ["42", "042"]),
            (["4.0", "5"], ["4.0", "5"]),
            (["42", str(2**63)], ["42", str(2**63)]),
            (["a", " 1"], ["a", " 1"]),
        ],
    )
    def test_text_is_a_number_only_if_all_of_it_is_canonical(
        self, write: Write, texts: list[str], ids: list[Any]
    ) -> None:
        log = read(write(HEAD + "".join(f"{text},1,view\n" for text in texts)))
        assert log.frame["user_id"].to_list() == ids

    @pytest.mark.parametrize(
        ("column", "ids"),
        [
            (pl.Series([1, 2], dtype=pl.UInt8), [1, 2]),
            (pl.Series([1, 2**64 - 1], dtype=pl.UInt64), ["1", str(2**64 - 1)]),
            (pl.Series(["01", "2"]), ["01", "2"]),
            (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
            (pl.Series([1.0, 2.0]), [1, 2]),
        ],
    )
    def test_parquet_ids_keep_their_type(
        self, tmp_path: Path, column: pl.Series, ids: list[Any]
    ) -> None:
        frame = pl.DataFrame({"user": column, "item": [1, 2], "event": ["view", "buy"]})
        frame.write_parquet(tmp_path / "log[1].parquet")
        assert read(tmp_path / "log[1].parquet").frame["user_id"].to_list() == ids

    def test_missing_ids_are_malformed(self) -> None:
        frame = pl.DataFrame(
            {"user": [1.0, float("nan"), None], "item": ["a", "b", "c"], "event": "view"}
        )
        with pytest.raises(DataError, match=r"row 1: missing user.*--malformed drop"):
            from_frame(frame, ReadOptions())
        log = from_frame(frame, DROP)
        assert log.frame.rows() == [(1, "a", "view", False)]
        assert log.report.dropped == {"missing user": 2}

    def test_fractional_ids_are_refused(self) -> None:
        frame = pl.DataFrame({"user": [1.5], "item": [1], "event": ["view"]})
        with pytest.raises(DataError, match=r"1\.5"):
            from_frame(frame, DROP)

    def test_files_that_disagree_on_the_type_meet_as_text(self, write: Write) -> None:
        paths = [write(HEAD + "7,1,view\n", "a.csv"), write(HEAD + "x,2,buy\n", "b.csv")]
        frame = read_events(paths, ReadOptions()).frame
        assert frame["user_id"].to_list() == ["7", "x"]
        assert frame["item_id"].to_list() == [1, 2]


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "note"),
        [
            ("1659304800", "seconds"),
            ("1659304800.0", "seconds"),
            ("1659304800000", "milliseconds"),
            ("1659304800000000", "microseconds"),
            ("2022-07-31T22:00:00", "ISO"),
            ("2022-07-31 22:00:00 UTC", "ISO"),
            ("2022-08-01T00:00:00+02:00", "ISO"),
            ("2022-07-31T22:00:00.000Z", "ISO"),
        ],
    )
    def test_one_moment_in_any_form(self, write: Write, text: str, note: str) -> None:
        log = read(write(f"user,item,event,ts\n1,2,view,{text}\n"))
        assert log.frame["timestamp"].to_list() == [1659304800000]
        assert len(log.report.notes) == 1
        assert note in log.report.notes[0]

    @pytest.mark.parametrize(
        "moment", [datetime(2022, 8, 1), datetime(2022, 8, 1, tzinfo=UTC), date(2022, 8, 1)]
    )
    def test_parquet_dates_are_utc(self, moment: date) -> None:
        frame = pl.DataFrame({"user": [1], "item": [1], "event": ["view"], "date": [moment]})
        assert from_frame(frame, ReadOptions()).frame["timestamp"].to_list() == [1659312000000]

    def test_unreadable_times_are_malformed_and_odd_ones_noted(self, write: Write) -> None:
        path = write("user,item,event,ts\n1,2,view,1659304800\n1,3,view,5\n1,4,view,soon\n")
        with pytest.raises(DataError, match=r"line 4: unreadable time.*'soon'"):
            read(path)
        log = read(path, malformed="drop")
        assert log.frame["timestamp"].to_list() == [1659304800000, 5000]
        assert any("1 events are dated before 1990" in note for note in log.report.notes)

    def test_an_empty_time_ignores_the_times(self, write: Write) -> None:
        assert not read(write("user,item,event,ts,date\n1,2,view,x,y\n"), time="").has_time


class TestBehaviors:
    def test_an_undo_event_names_what_it_undoes(self, write: Write) -> None:
        log = read(
            write(HEAD + "1,2,cart\n1,2,uncart\n1,3,order\n"),
            rename={"uncart": "remove", "order": "buy"},
            undo={"cart": "remove"},
            behaviors=("cart", "buy"),
        )
        assert log.frame.select("behavior", "undo").rows() == [
            ("cart", False),
            ("cart", True),
            ("buy", False),
        ]

    def test_unknown_values_are_listed_or_counted(self, write: Write) -> None:
        path = write(HEAD + "1,2,view\n1,2,wish\n1,3,wish\n1,3,buy\n")
        with pytest.raises(DataError, match=r"line 3: behaviour 'wish'.*'wish' \(2\).*--map"):
            read(path, behaviors=("view", "buy"))
        log = read(path, behaviors=("view", "buy"), unknown="drop")
        assert log.report.dropped == {"unknown behaviour": 2}
        assert read(path).frame.height == 4

    def test_users_over_the_cap_are_dropped_and_counted(self, write: Write) -> None:
        log = read(write(HEAD + "1,1,view\n2,1,view\n2,2,view\n"), cap=1)
        assert log.frame["user_id"].to_list() == [1]
        assert log.report.dropped == {"user over the cap": 2}

    def test_options_that_contradict_each_other_are_refused(self) -> None:
        for options in (
            {"unknown": "keep"},
            {"cap": 0},
            {"delimiter": "::"},
            {"behaviors": ("view", "view")},
            {"behaviors": ("view", "gone"), "undo": {"view": "gone"}},
            {"behaviors": ("view",), "undo": {"cart": "gone"}},
        ):
            with pytest.raises(UsageError, match="--"):
                ReadOptions(**options)


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "empty"),
            ("\n\n", "empty"),
            (HEAD, "header only"),
            ("user,visitorid,item,event\n1,2,3,view\n", "'user', 'visitorid'.*--user"),
            ("user,item,price\n1,2,3\n", "expected a behaviour column.*--behavior.*'price'"),
            ("1,2,view\n", "no header.*--columns"),
            (HEAD + "1,2,view\n1,2\n", "line 3: wrong number of fields"),
            (HEAD + "1,2,view\n1,2,view,x\n", "line 3: wrong number of fields"),
            (HEAD + "1,2,view\n\n1,,view\n", "line 4: missing item"),
            (HEAD + "1,2,view\n1,2,\n", "line 3: missing behaviour"),
            (HEAD + '1,2,view\n"1,2,view\n', "line 3: broken quotes"),
            (b"user,item,event\n1,\xff,view\n", "line 2: not UTF-8"),
            (HEAD.encode("utf-16"), "UTF-16"),
        ],
    )
    def test_an_error_says_where_and_what_to_do(
        self, write: Write, text: str | bytes, said: str
    ) -> None:
        with pytest.raises(DataError, match=f"(?s)log.csv.*{said}"):
            read(write(text))

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{", "line 2: broken JSON"),
            ("[1]", "line 2: broken JSON"),
            ('{"user": null, "item": 1, "event": "view"}', "line 2: missing user"),
            ('{"user": [1], "item": 1, "event": "view"}', "line 2: missing user"),
            ('{"user": "\\ud800", "item": 1, "event": "view"}', "line 2: missing user"),
        ],
    )
    def test_json_errors_say_the_line(self, write: Write, line: str, said: str) -> None:
        good = '{"user": "a", "item": 1, "event": "view"}'
        path = write(f"{good}\n{line}\n{good}\n", "log.jsonl")
        with pytest.raises(DataError, match=f"log.jsonl {said}"):
            read(path)
        log = read(path, malformed="drop")
        assert log.frame.rows() == [("a", 1, "view", False)] * 2
        balance(log)

    def test_what_is_not_there_is_a_usage_error(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="found nothing"):
            read(tmp_path / "*.csv")
        with pytest.raises(UsageError, match=r"--item 'sku'.*'item_id'"):
            read(write(HEAD + "1,2,view\n"), item="sku")

    def test_a_parquet_file_in_name_only_is_refused(self, write: Write) -> None:
        with pytest.raises(DataError, match=r"log\.parquet"):
            read(write("hello", "log.parquet"))

    def test_all_rows_dropped_is_an_error_with_the_counts(self, write: Write) -> None:
        with pytest.raises(DataError, match="'missing user': 1"):
            read(write(HEAD + ",1,view\n"), malformed="drop")


cell = st.sampled_from(["1", "2", "03", "", "nan", "a", "ü", '"q"', '"', "view", "1659304800"])
row = st.lists(cell, min_size=1, max_size=5).map(",".join)


class TestProperties:
    @relaxed
    @given(rows=st.lists(row, max_size=12), ending=st.sampled_from(["\n", "\r\n"]))
    def test_every_row_is_kept_or_counted(
        self, tmp_path: Path, rows: list[str], ending: str
    ) -> None:
        path = tmp_path / "log.csv"
        lines = ["user,item,event,ts", "1,2,view,1659304800", *rows]
        path.write_bytes(ending.join(lines).encode())
        log = read_events([path], DROP)
        balance(log)
        if not any('"' in line for line in rows):
            assert log.report.rows_read == 1 + sum(line != "" for line in rows)

    @relaxed
    @given(
        rows=st.lists(
            st.dictionaries(
                st.sampled_from(["user", "item", "event"]),
                st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers()),
            )
            | st.integers()
        )
    )
    def test_every_json_row_is_kept_or_counted(self, tmp_path: Path, rows: list[Any]) -> None:
        path = tmp_path / "log.jsonl"
        whole = [{"user": 1, "item": 2, "event": "view"}, *rows]
        path.write_text("\n".join(json.dumps(one) for one in whole))
        log = read_events([path], DROP)
        balance(log)
        assert log.report.rows_read == len(whole)

    @relaxed
    @given(
        noise=st.binary(max_size=200),
        head=st.sampled_from(
            [
                *(b"", HEAD.encode(), b'{"user":1,"item":2,"event":"a"}\n', b"PAR1"),
                b"user_id:token\titem_id:token\taction:token\n",
            ]
        ),
        named=st.sampled_from(["", "view="]),
        name=st.sampled_from(
            ["x.csv", "x.jsonl", "x.parquet", "x.csv.gz", "x.csv.zst", "x", "x.inter"]
        ),
        policy=st.sampled_from(["error", "drop"]),
    )
    def test_no_bytes_raise_anything_but_our_errors(
        self, tmp_path: Path, noise: bytes, head: bytes, named: str, name: str, policy: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(head + noise)
        with contextlib.suppress(NmtrError):
            balance(read_events([f"{named}{path}"], ReadOptions(malformed=policy)))


@pytest.mark.skipif(
    not (DATA / "beibei").is_dir(), reason="needs the Beibei log under $NMTR_DATA/beibei"
)
def test_beibei_holds_what_its_description_says() -> None:
    log = read_events([DATA / "beibei" / "events.parquet"], ReadOptions())
    counts = dict(log.frame["behavior"].value_counts().rows())
    assert counts == {"view": 2_412_586, "cart": 642_622, "buy": 282_860}
    assert not log.has_time
    balance(log)
