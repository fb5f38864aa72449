"""Compiled code is kept where it can be, and nmtr works where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmtr import cache


def test_the_first_place_that_can_be_written_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "a" / "b"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache.place() == tmp_path / "a" / "b", "it may have to be made"
    (tmp_path / "a").write_text("a file is no folder")
    assert cache.place() not in (None, tmp_path / "a" / "b")

    def access(path: Path, mode: int) -> bool:
        return Path(path).is_relative_to(tmp_path)

    monkeypatch.setattr(os, "access", access)
    assert cache.place() == tmp_path / "home" / "numba"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert cache.place() is None


def test_who_can_write_nowhere_gets_a_folder_that_goes_when_the_process_ends(
    tmp_path: Path,
) -> None:
    script = (
        "import os\n"
        "os.access = lambda *_: False\n"
        "import nmtr\n"
        "print(nmtr.cache.provided, os.stat(nmtr.cache.provided).st_mode & 0o777)\n"
        "import nmtr.models.kernels.chance\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    folder, mode = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert (Path(folder).parent, int(mode)) == (tmp_path, 0o700)
    assert not Path(folder).exists()
