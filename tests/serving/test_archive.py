"""One file of parts: read where they lie, taken apart by any unzip, and checked to the byte."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nmtr.errors import DamagedError
from nmtr.serving.archive import ALIGN, MANIFEST, Archive, write_archive

TENSORS = {
    "table": torch.arange(12, dtype=torch.float32).view(3, 4),
    "empty": torch.empty(0, 4),
    "known": torch.tensor([True, False]),
    "one": torch.tensor(7, dtype=torch.int64),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
}
ARRAYS: dict[str, Any] = {
    "keys.npy": np.arange(10, dtype=np.int64),
    "flags.npy": np.array([True, False]),
    "none.npy": np.zeros((0, 3), np.float32),
    "block.npy": np.arange(6, dtype=np.uint64).reshape(2, 3),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    save_file(TENSORS, folder / "weights", {"any": "thing"})
    path = folder / "made.nmtr"
    parts: dict[str, Any] = {
        "text.json": b'{"a": 1}',
        "w.safetensors": folder / "weights",
        **ARRAYS,
    }
    write_archive(path, parts, {"format": "test"})
    return path


def test_parts_come_back_as_they_went_in(made: Path) -> None:
    found = Archive(made)
    assert found.manifest["format"] == "test"
    assert found.json("text.json") == {"a": 1}
    for name, expected in ARRAYS.items():
        array = found.array(name)
        assert array.dtype == expected.dtype
        assert np.array_equal(array, expected)
    tensors = found.tensors("w.safetensors")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    found.check(contents=True)


def test_any_unzip_takes_it_apart_and_every_part_begins_at_a_multiple(made: Path) -> None:
    with zipfile.ZipFile(made) as archive:
        assert archive.testzip() is None
        assert [each.filename for each in archive.infolist()][-1] == MANIFEST
    content = made.read_bytes()
    for name in ("text.json", *ARRAYS):
        place = content.index(bytes(Archive(made).part(name)))
        assert place % ALIGN == 0


def test_equal_parts_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_archive(tmp_path / name, ARRAYS, {"format": "test"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def everything(path: Path) -> list[bytes]:
    found = Archive(path)
    found.check(contents=True)
    return [bytes(found.part(name)) for name in (MANIFEST, "text.json", "w.safetensors", *ARRAYS)]


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_does_not_matter(made: Path, share: float, bit: int) -> None:
    content = bytearray(made.read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    broken = made.with_name("flipped.nmtr")
    broken.write_bytes(content)
    try:
        found = everything(broken)
    except DamagedError:
        return
    assert found == everything(made)


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(made: Path, share: float) -> None:
    content = made.read_bytes()
    cut = made.with_name("cut.nmtr")
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedError, match=r"cut\.nmtr"):
        everything(cut)


def test_a_damaged_part_is_named_with_what_was_expected_and_found(
    made: Path, tmp_path: Path
) -> None:
    content = made.read_bytes()
    at = content.index(b'{"a": 1}')
    (tmp_path / "x").write_bytes(content[:at] + b'{"a": 2}' + content[at + 8 :])
    with pytest.raises(
        DamagedError, match=r"text\.json: expected sha256 [0-9a-f]+, found [0-9a-f]+"
    ):
        Archive(tmp_path / "x").check(contents=True)
    Archive(tmp_path / "x").check(contents=False)
    with pytest.raises(DamagedError, match=r"gone\.npy: expected this part, found none"):
        Archive(made).array("gone.npy")


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_archive(tmp_path / "x", {"o.npy": objects}, {})
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    write_archive(tmp_path / "y", {"o.npy": tmp_path / "o.npy"}, {})
    with pytest.raises(DamagedError, match="expected plain numbers"):
        Archive(tmp_path / "y").array("o.npy")
