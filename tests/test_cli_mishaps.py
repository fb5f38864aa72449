"""What the system refuses in the middle of a command is said with its place and what to do."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from nmtr.cli import run
from nmtr.cli.mishaps import told
from nmtr.errors import DamagedError, NmtrError
from nmtr.files import replace_file, replace_folder, write_text


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow past 4 KiB; not a fixture, under which pytest could not report either."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device;"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: Permission denied; see whos"),
        (RuntimeError("I/O error: no space left on device (os error 28)"), "No space left on dev"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "No space left on d"),
        (RuntimeError("cannot cache function 'draw': no locator"), "no folder can be written for"),
        (MemoryError(), "out of memory: give it more"),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory (Unable to allocate 9 GiB)"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "out of memory (Def"),
        (OSError("29748 requested and 0 written"), "a write was cut short; the disk, or a quota"),
        (OSError("of a library"), "OSError: of a library"),
    ],
)
def test_what_the_system_refuses_comes_with_advice(error: Exception, said: str) -> None:
    assert str(told(error)).startswith(said)


def test_a_fault_of_ours_is_none_of_the_system_s() -> None:
    assert told(RuntimeError("odd")) is None
    assert told(KeyError("user")) is None


def test_a_disk_that_fills_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.write_text("before")
    too_large = pytest.raises(OSError, match="too large")
    with too_large as failed, small_files():
        write_text(whole, "x" * 10_000)
    assert failed.value.errno == errno.EFBIG
    assert failed.value.filename == str(whole)
    too_large = pytest.raises(OSError, match="too large")
    with too_large, small_files(), replace_folder(tmp_path / "data") as folder:
        (folder / "item.npy").write_bytes(b"x" * 10_000)
    cut = pytest.raises(OSError, match="requested and")
    with cut as failed, small_files(), replace_file(whole) as temporary:
        np.arange(10_000).tofile(temporary)
    assert "make room" in str(told(failed.value))
    assert whole.read_text() == "before"
    assert os.listdir(tmp_path) == ["whole"], "nothing half-written is left"


def test_a_study_on_a_full_disk_is_not_called_damaged(tmp_path: Path) -> None:
    """Its folder holds hours of trials, and must not be deleted for want of room."""
    from nmtr.training.study import _database

    refused = pytest.raises(NmtrError, match="cannot be written as a study: disk I/O")
    with refused as failed, small_files(), _database(tmp_path / "study.db"):
        pass
    assert not isinstance(failed.value, DamagedError)
    assert "delete" not in str(failed.value)


def test_a_folder_that_may_not_be_written_is_named_without_our_temporary_names(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(OSError, match="directory") as failed,
        replace_folder(tmp_path / "data") as f,
    ):
        (f / "item.npy" / "x").write_bytes(b"x")
    assert failed.value.filename == str(tmp_path / "data" / "item.npy" / "x")
    with pytest.raises(FileNotFoundError) as failed, replace_file(tmp_path / "never"):
        pass
    assert failed.value.filename == str(tmp_path / "never")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], '"train" parameter --out is missing.'),
        (["bundle", "run", "--out"], '"bundle" parameter --out requires an argument.'),
    ],
)
def test_what_is_missing_is_told_from_what_lacks_its_value(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err
