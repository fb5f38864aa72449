"""Fuzzing of the log reader: real logs with bytes changed at random must be read or refused.

    python tests/fuzz/reader.py [SECONDS] [SEED]

A log is mutated a few times over (bytes flipped, cut out, doubled, replaced by what breaks parsers)
and read under either policy. What is no NmtrError, takes longer than a few seconds, or counts rows
wrongly is kept as a file in the folder that is named at the end. The input is on disk before it is
read, so that one that kills the process is there too.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import zstandard

from nmtr.data.events import ReadOptions, read_events
from nmtr.errors import NmtrError

SLOW = 10.0  # seconds of CPU; a log of a few hundred rows takes milliseconds
NASTY = (
    b"", b"\0", b"\n", b"\r", b"\r\n", b'"', b'""', b",", b"\t", b";", b"{", b"}", b"[", b"]",
    b"null", b"NaN", b"-", b"-0", b"1e999", b"9" * 30, b"1_000", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xc3", b"\xf0\x9f\x9b\x92", b"\\u0000", b"\\ud800", b"2022-13-45", b"1969-12-31T23:59:60Z",
    b"+05:30", b"[" * 2000, b'{"a":' * 500, b"x" * 70_000,
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """An input that was neither read nor refused: its name, its bytes, what happened."""

    name: str
    content: bytes
    what: str


def seeds(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(a file's name, its bytes): one log in each format."""
    rows = [
        (f"u{n % 7}", n % 5, ("view", "cart", "buy")[n % 3], 1_659_304_800 + n) for n in range(60)
    ]
    heads = ("user_id", "item_id", "behavior", "timestamp")
    for name, delimiter in (("log.csv", ","), ("log.tsv", "\t"), ("log", ";")):
        lines = [delimiter.join(map(str, each)) for each in (heads, *rows)]
        yield name, "\n".join(lines).encode()
    yield (
        "quoted.csv",
        "\r\n".join(",".join(f'"{each}"' for each in row) for row in (heads, *rows)).encode(),
    )
    dated = [(*row[:3], f"2022-08-01T00:{n:02}:00+02:00") for n, row in enumerate(rows)]
    yield "dated.csv", "\n".join(",".join(map(str, each)) for each in (heads, *dated)).encode()
    flat = "\n".join(json.dumps(dict(zip(heads, row, strict=True))) for row in rows).encode()
    yield "log.jsonl", flat
    session = {"session": 1, "events": [{"aid": 2, "ts": 1_659_304_800_000, "type": "clicks"}] * 9}
    yield "otto.jsonl", "\n".join(json.dumps(session | {"session": n}) for n in range(9)).encode()
    yield "log.csv.gz", gzip.compress(_csv(heads, rows), mtime=0)
    yield "log.jsonl.zst", zstandard.compress(flat)
    typed = ("user_id:token", "item_id:token", "action:token", "timestamp:float")
    yield "log.inter", "\n".join("\t".join(map(str, each)) for each in (typed, *rows)).encode()
    file = folder / "seed.parquet"
    pl.DataFrame(rows, schema=list(heads), orient="row").write_parquet(file)
    yield "log.parquet", file.read_bytes()


def _csv(heads: tuple[str, ...], rows: list[tuple[str, int, str, int]]) -> bytes:
    return "\n".join(",".join(map(str, each)) for each in (heads, *rows)).encode()


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to eight changes."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(found) + 1)
        until = min(len(found), at + rng.choice((1, 2, 8, 64, 1000)))
        kind = rng.randrange(5)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[at:until]
        elif kind == 2:
            found[at:at] = found[at:until] * rng.choice((1, 2, 20))
        elif kind == 3:
            found[at : at + rng.randrange(4)] = rng.choice(NASTY)
        else:
            found[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(found)


def read(path: Path, policy: str) -> str:
    """Read one; what went wrong, or nothing."""
    begun = time.process_time()
    try:
        log = read_events([path], ReadOptions(malformed=policy))
        kept = len(log.frame)
        if log.report.rows_read != kept + sum(log.report.dropped.values()):
            return f"{log.report} does not count {kept} rows"
    except NmtrError:
        pass
    except KeyboardInterrupt:
        raise
    except BaseException:  # a panic of Polars is no Exception
        return traceback.format_exc()
    taken = time.process_time() - begun
    return f"took {taken:.1f} s" if taken > SLOW else ""


def fuzz(
    folder: Path, *, seconds: float, seed: int, most: int = sys.maxsize
) -> tuple[int, list[Failure]]:
    """How many inputs were tried within the time, and those that failed."""
    rng = random.Random(seed)
    starts = list(seeds(folder))
    failures, tried, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end and tried < most:
        name, content = starts[tried % len(starts)]
        made = mutated(content, rng)
        path = folder / name
        path.write_bytes(made)
        if what := read(path, rng.choice(("error", "drop"))):
            failures.append(Failure(name, made, what))
        tried += 1
        path.unlink()
    return tried, failures


def main(seconds: float = 120, seed: int = 0) -> int:
    """Fuzz, and keep what failed; returns how many did."""
    folder = Path(tempfile.mkdtemp(prefix="nmtr-fuzz-"))
    tried, failures = fuzz(folder, seconds=seconds, seed=seed)
    seen: set[str] = set()
    for n, each in enumerate(failures):
        last = each.what.strip().splitlines()[-1]
        if last not in seen:
            (folder / f"{n}-{each.name}").write_bytes(each.content)
            print(f"{folder / f'{n}-{each.name}'}:\n{each.what}")
        seen.add(last)
    print(f"{tried:,} inputs, {len(failures)} failures of {len(seen)} kinds, in {folder}")
    return min(len(failures), 100)


if __name__ == "__main__":
    seconds, seed = (*sys.argv[1:], *("120", "0")[len(sys.argv) - 1 :])
    sys.exit(main(float(seconds), int(seed)))
