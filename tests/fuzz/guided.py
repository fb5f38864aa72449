"""Fuzzing of the log reader that is led by coverage; it needs atheris, which nmtr does not.

    pip install atheris
    python tests/fuzz/guided.py [CORPUS] [options of libFuzzer, such as -max_total_time=300]

Inputs that reach new code are kept in the folder CORPUS and are where the next run begins; a new
one is made of the logs of reader.py. An input's first byte says which name its file has, whether it
is packed, and how malformed rows are met; the rest is the file. One that is neither read nor
refused ends the run, and lies beside the corpus: the same command with its path repeats it.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import tempfile
from pathlib import Path

import atheris
import zstandard

with atheris.instrument_imports(include=["nmtr.data"]):
    import reader

NAMES = (
    "log.csv", "log.tsv", "log", "log.jsonl", "log.inter", "log.parquet", "log.csv.gz",
    "log.jsonl.gz", "log.csv.zst", "log.jsonl.zst",
)  # fmt: skip
POLICIES = ("error", "drop")
FOLDER = Path(tempfile.mkdtemp(prefix="nmtr-fuzz-"))


def one(data: bytes) -> None:
    """Read one input. Raises AssertionError where it is neither read nor refused."""
    if not data:
        return
    name, policy = NAMES[data[0] % len(NAMES)], POLICIES[data[0] // len(NAMES) % 2]
    content = data[1:]
    if name.endswith(".gz"):
        content = gzip.compress(content, 1)
    elif name.endswith(".zst"):
        content = zstandard.compress(content, 1)
    path = FOLDER / name
    path.write_bytes(content)
    what = reader.read(path, policy)
    path.unlink()
    assert not what, what


def begin(corpus: Path) -> None:
    """Fill an empty corpus with logs that are as they should be."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for name, content in reader.seeds(FOLDER):
        at = NAMES.index(name) if name in NAMES else NAMES.index("log" + Path(name).suffix)
        unpacked = content
        if name.endswith(".gz"):
            unpacked = gzip.decompress(content)
        elif name.endswith(".zst"):
            unpacked = zstandard.decompress(content)
        for policy in range(len(POLICIES)):
            made = bytes([at + policy * len(NAMES)]) + unpacked
            (corpus / hashlib.sha256(made).hexdigest()[:16]).write_bytes(made)


def main(arguments: list[str]) -> None:
    given = [each for each in arguments if not each.startswith("-")]
    options = [each for each in arguments if each.startswith("-")]
    corpus = Path(given[0]) if given else FOLDER / "corpus"
    if not corpus.is_file():
        begin(corpus)
    place = corpus.parent / "found-"
    atheris.Setup([sys.argv[0], f"-artifact_prefix={place}", *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
