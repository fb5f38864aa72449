"""One file of many parts: a zip whose members are stored as they are, each at a multiple of 64.

So arrays and tensors are read where they lie, memory-mapped, and any unzip can take the file apart.
Nothing is pickled. The last member, manifest.json, states every other's size and sha256, and its
own checksum.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.errors import DamagedError

MANIFEST = "manifest.json"
ALIGN = 64
LOCAL = struct.Struct("<4s5H3L2H")  # a member's local header: PKWARE's APPNOTE, 4.3.7
PADDING = 0xD935  # the extra field that Android's zipalign pads with
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16,
    "I32": torch.int32, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16,
    "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip
Part = bytes | npt.NDArray[Any] | Path


def write_archive(path: Path, parts: Mapping[str, Part], about: Mapping[str, Any]) -> None:
    """Write parts (bytes, an array, or a file to copy) and what `about` says to a new file."""
    stated = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, part in parts.items():
            with _member(archive, name) as stream:
                stated[name] = _write_part(stream, part)
        manifest = {**about, "parts": stated}
        manifest["sha256"] = _checksum(manifest)
        with _member(archive, MANIFEST) as stream:
            stream.write((json.dumps(manifest, indent=2) + "\n").encode())


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A new member whose contents begin at a multiple of ALIGN."""
    info = zipfile.ZipInfo(name)  # of 1980, so that equal parts make equal bytes
    info.external_attr = 0o644 << 16
    zip64 = 20  # what zipfile puts before `extra` where it is forced to
    begins = archive.start_dir + LOCAL.size + len(name.encode()) + zip64 + 4
    gap = -begins % ALIGN
    info.extra = struct.pack("<2H", PADDING, gap) + bytes(gap)
    return archive.open(info, "w", force_zip64=True)


class _Counted:
    """A stream that counts and hashes what goes through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.size, self.hash = stream, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.hash.update(data)
        return self.stream.write(data)


def _write_part(stream: IO[bytes], part: Part) -> dict[str, Any]:
    counted = _Counted(stream)
    if isinstance(part, bytes):
        counted.write(part)
    elif isinstance(part, Path):
        with part.open("rb") as source:
            shutil.copyfileobj(source, counted, 1 << 20)
    else:
        np.lib.format.write_array(counted, np.ascontiguousarray(part), allow_pickle=False)
    return {"bytes": counted.size, "sha256": counted.hash.hexdigest()}


def _checksum(manifest: Mapping[str, Any]) -> str:
    """sha256 of all that a manifest states but this."""
    stated = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


class Archive:
    """An archive opened for reading: its manifest, and its parts, memory-mapped.

    Raises DamagedError for a file that is no archive, or is cut off, or whose manifest was altered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            with zipfile.ZipFile(path) as archive:
                self._places = {each.filename: self._place(each) for each in archive.infolist()}
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as error:
            raise DamagedError(f"{path} is no bundle, or is cut off ({error})") from error
        self.manifest = self._manifest()

    def _place(self, member: zipfile.ZipInfo) -> tuple[int, int]:
        """Where a member's contents begin and end."""
        at = member.header_offset
        mark, *_, name, extra = LOCAL.unpack(self._bytes[at : at + LOCAL.size])
        start = at + LOCAL.size + name + extra
        stop = start + member.file_size
        stored = member.compress_type == zipfile.ZIP_STORED
        if mark != b"PK\3\4" or not stored or stop > len(self._bytes):
            raise ValueError(f"{member.filename} is not stored where the directory says")
        return start, stop

    def _manifest(self) -> dict[str, Any]:
        try:
            found = json.loads(bytes(self.part(MANIFEST)))
            if not isinstance(found, dict) or not isinstance(found["parts"], dict):
                raise ValueError("it states no parts")
            stated, real = found.get("sha256"), _checksum(found)
        except (KeyError, ValueError) as error:
            raise DamagedError(
                f"{self.path}, {MANIFEST}: cannot be read ({error}); make the bundle again"
            ) from error
        if stated != real:
            raise self._damaged(MANIFEST, f"its sha256 is {real}, it states {stated}")
        return found

    def check(self, *, contents: bool) -> None:
        """Compare each part's size, and with `contents` its sha256, to the manifest."""
        for name, stated in self.manifest["parts"].items():
            part = self.part(name)
            if len(part) != stated["bytes"]:
                raise self._damaged(
                    name, f"expected {stated['bytes']:,} bytes, found {len(part):,}"
                )
            if contents and (found := hashlib.sha256(part).hexdigest()) != stated["sha256"]:
                raise self._damaged(name, f"expected sha256 {stated['sha256']}, found {found}")

    def _damaged(self, name: str, what: str) -> DamagedError:
        return DamagedError(
            f"{self.path}, {name}: {what}; the file is damaged, copy or make the bundle again"
        )

    @property
    def size(self) -> int:
        return len(self._bytes)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def part(self, name: str) -> memoryview:
        """The bytes of a part, not yet read."""
        if name not in self._places:
            raise self._damaged(name, "expected this part, found none")
        start, stop = self._places[name]
        return memoryview(self._bytes)[start:stop]

    def json(self, name: str) -> Any:
        return self._read(name, lambda part: json.loads(bytes(part)))

    def array(self, name: str) -> npt.NDArray[Any]:
        """An array, memory-mapped and read-only."""
        found: npt.NDArray[Any] = self._read(name, _array)
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a safetensors part, memory-mapped: not to be written to."""
        found: dict[str, Tensor] = self._read(name, _tensors)
        return found

    def _read(self, name: str, read: Callable[[memoryview], Any]) -> Any:
        try:
            return read(self.part(name))
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise self._damaged(name, f"cannot be read ({error})") from error


def _array(part: memoryview) -> npt.NDArray[Any]:
    head = io.BytesIO(bytes(part[:4096]))
    version = np.lib.format.read_magic(head)
    if version != (1, 0):
        raise ValueError(f"expected a .npy of version 1.0, found {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(head)
    if dtype.hasobject or fortran:
        raise ValueError(f"expected plain numbers in C order, found {dtype}")
    found = np.frombuffer(part, dtype, math.prod(shape), head.tell()) if math.prod(shape) else None
    return np.zeros(shape, dtype) if found is None else found.reshape(shape)


def _tensors(part: memoryview) -> dict[str, Tensor]:
    (length,) = struct.unpack("<Q", part[:8])
    head = json.loads(bytes(part[8 : 8 + length]))
    head.pop("__metadata__", None)
    found = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        for name, about in head.items():
            dtype, shape = DTYPES[about["dtype"]], about["shape"]
            low, high = (8 + length + each for each in about["data_offsets"])
            size = math.prod(shape)
            if high - low != size * dtype.itemsize or not 8 + length <= low <= high <= len(part):
                raise ValueError(f"tensor {name} does not lie where it says")
            flat = torch.empty(0, dtype=dtype)
            if size:
                flat = torch.frombuffer(part, dtype=dtype, count=size, offset=low)
            found[name] = flat.view(shape)
    return found
