"""What a log is read from: files, tables and databases, here or behind URLs; files as blocks."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO

import numpy as np

from nmtr.data.reading import remote
from nmtr.data.reading.places import (
    OBJECT_STORES,
    TABLES,
    Place,
    from_environment,
    scheme_of,
    without_secrets,
)
from nmtr.errors import DataError, UsageError

BLOCK = 16 * 2**20
KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".inter"), "delimited"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
_TABS = (".tsv", ".inter")
_PACKED = (".gz", ".zst")
_MAGIC = {b"PAR1": "parquet", b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}


@dataclass(frozen=True)
class Source:
    """One file, table or database; `packing` '', '.gz' or '.zst'.

    kind: a value of KINDS, of TABLES, or 'database'.
    behavior: that of every row, where the caller named it; else ''.
    """

    path: Path | remote.RemoteFile | Place
    kind: str
    packing: str
    behavior: str = ""

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def tabs(self) -> bool:
        """Whether the name promises fields between tabs."""
        return any(suffix in _TABS for suffix in self.path.suffixes)


def find_sources(given: Sequence[str | Path]) -> tuple[list[Source], list[str]]:
    """What stands behind paths, globs, folders and URLs, each once; notes on what was passed over.

    `buy=orders.csv` says that every row of these files is a buy. Raises UsageError where nothing is
    found, or a file is to be of two behaviours.
    """
    notes: list[str] = []
    found: dict[object, Source] = {}
    for one in given:
        behavior, rest = of_behavior(one)
        for path in _expand(rest, notes):
            key = path.resolve() if isinstance(path, Path) else path
            earlier = found.get(key)
            if earlier is None:
                found[key] = _source(path, behavior)
            elif earlier.behavior == behavior:
                notes.append(f"{path.name} was named twice and read once")
            else:
                names = " and ".join(
                    each or "no behaviour" for each in (earlier.behavior, behavior)
                )
                raise UsageError(f"{path.name} was named for {names}; name it once")
    if not found:
        raise UsageError("expected at least one event file, glob, folder or URL, got none")
    return list(found.values()), notes


def of_behavior(one: str | Path) -> tuple[str, str | Path]:
    """('buy', 'orders.csv') of `buy=orders.csv`, and ('', path) of what is a path as it stands."""
    if scheme_of(str(one)):
        return "", one
    behavior, mark, rest = str(one).partition("=")
    if not mark or not behavior or not rest or "/" in behavior or is_there(one):
        return "", one
    return behavior, rest


def is_there(one: str | Path) -> bool:
    """Whether a path or a glob matches something here."""
    try:
        return Path(one).expanduser().exists() or bool(glob(str(one), recursive=True))
    except ValueError:  # a NUL byte in the name
        return False


def _expand(one: str | Path, notes: list[str]) -> Sequence[Path | remote.RemoteFile | Place]:
    text = from_environment(str(one))
    scheme = scheme_of(text)
    if scheme and scheme != "file":
        return _elsewhere(text, scheme)
    path = Path(text.removeprefix("file://")).expanduser()
    try:
        if path.is_file():
            return [path]
        if (path / "_delta_log").is_dir():
            notes.append(f"{path.name} is a Delta table and was read as one")
            return [Place(f"delta:{path}")]
        if path.is_dir():
            return _folder(path, notes)
        matches = sorted(Path(match) for match in glob(str(path), recursive=True))
    except ValueError as error:  # a NUL byte in the name
        raise UsageError(f"{one!r} is no path: {error}") from error
    files = [match for match in matches if match.is_file()]
    if not files:
        raise UsageError(
            f"{one}: expected a file, a folder or a glob that matches files, found nothing there; "
            f"the current folder is {Path.cwd()}"
        )
    return files


def is_database(scheme: str) -> bool:
    """Whether a URL is for SQLAlchemy: no file system is known by its scheme."""
    files = ("", "file", *OBJECT_STORES, *TABLES)
    return scheme not in files and not remote.is_file_system(scheme)


def _elsewhere(text: str, scheme: str) -> Sequence[remote.RemoteFile | Place]:
    """Files that fsspec opens are listed here; tables and Parquet that Polars finds are not."""
    if scheme in OBJECT_STORES:
        suffix = Path(without_secrets(text)).suffix.lower()
        if text.endswith("/") or not suffix or KINDS.get(suffix) == "parquet":
            return [Place(text)]
    elif scheme in TABLES or is_database(scheme):
        return [Place(text)]
    return remote.expand(text)


def _folder(folder: Path, notes: list[str]) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    events = [path for path in files if path.name[0] not in "._" and _suffixes(path)[0]]
    passed = [path.name for path in files if path not in events and path.name[0] not in "._"]
    if not events:
        kinds = ", ".join(KINDS)
        raise UsageError(
            f"{folder}: expected event files ({kinds}, the text ones also as .gz or .zst) in this "
            f"folder, found none among its {len(files)} files; name the files themselves"
        )
    if passed:
        notes.append(f"not read in {folder.name}, by their names no event files: {passed[:10]}")
    return events


def _suffixes(path: Path | remote.RemoteFile) -> tuple[str, str]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in _PACKED else ""
    last = suffixes[-1] if suffixes else ""
    return KINDS.get(last, ""), packing


def _source(path: Path | remote.RemoteFile | Place, behavior: str) -> Source:
    if isinstance(path, Place):
        scheme = scheme_of(path.url)
        kind = "parquet" if scheme in OBJECT_STORES else scheme if scheme in TABLES else "database"
        return Source(path, kind, "", behavior)
    kind, packing = _suffixes(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        return Source(path, kind or "delimited", "", behavior)
    magic = next((what for mark, what in _MAGIC.items() if start.startswith(mark)), "")
    if packing and magic != packing[1:]:
        raise DataError(
            f"{path.name}: expected {packing} data, as the name says, got other bytes; "
            "the download may be broken, or the name wrong"
        )
    if not kind:
        plain = not packing and start.lstrip()[:1] == b"{"
        kind = "parquet" if magic == "parquet" else "json" if plain else "delimited"
    if kind == "parquet" and packing:
        raise DataError(f"{path.name}: expected a Parquet file as it is, got it packed; unpack it")
    if magic in ("gz", "zst") and not packing:
        packing = f".{magic}"
    return Source(path, kind, packing, behavior)


def line_blocks(source: Source, *, quoted: bool, size: int = BLOCK) -> Iterator[bytes]:
    """Blocks of whole lines, each ending in a line feed, of about `size` bytes.

    `quoted`: a line feed between an opening and a closing quote is no end of line. Raises
    DataError where the file cannot be read or unpacked.
    """
    pending: list[bytes] = []
    for chunk in _chunks(source, size):
        pending.append(chunk)
        if b"\n" not in chunk:
            continue
        block = b"".join(pending)
        cut = block.rfind(b"\n") + 1
        # A quote that never closes must not gather the whole file in memory.
        if quoted and block.count(b'"', 0, cut) % 2 and len(block) <= 4 * size:
            cut = _after_record(block)
        pending = [block[cut:]]
        if cut:
            yield block[:cut]
    rest = b"".join(pending)
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _after_record(block: bytes) -> int:
    """The position after the last line feed that is outside quotes, or 0."""
    data = np.frombuffer(block, np.uint8)
    inside = np.bitwise_xor.accumulate(data == ord('"'))
    ends = np.flatnonzero((data == ord("\n")) & ~inside)
    return int(ends[-1]) + 1 if len(ends) else 0


def _chunks(source: Source, size: int) -> Iterator[bytes]:
    if isinstance(source.path, Place):
        raise AssertionError(f"{source.path} is no file of lines")
    try:
        with source.path.open("rb") as file:
            if source.packing == ".zst":
                yield from _unzstd(file, source.name)
                return
            with gzip.GzipFile(fileobj=file) if source.packing else nullcontext(file) as stream:
                while chunk := stream.read(size):
                    yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{source.name}: expected a whole {source.packing} file, got one that is cut short or "
            f"broken ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read: {error.strerror or error}") from error


def _unzstd(file: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise UsageError(
            f"{name}: reading .zst needs the package zstandard, which is not installed; "
            "`pip install zstandard`, or unpack the file with `zstd -d`"
        ) from error
    unpacker = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame = unpacker.decompressobj()
    try:
        while packed := file.read(2**20):
            while packed:
                if frame.eof:
                    frame = unpacker.decompressobj()
                yield frame.decompress(packed)
                packed = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise DataError(f"{name}: expected a .zst file, got a broken one ({error})") from error
    if not frame.eof:
        raise DataError(f"{name}: expected a whole .zst file, got one that is cut short")
