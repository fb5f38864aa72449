"""A short fuzzing of the log reader; reader.py goes on for as long as it is told."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest


def module() -> ModuleType:
    name = "fuzz_reader"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("reader.py"))
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


READER = module()


def test_logs_with_bytes_changed_are_read_or_refused(tmp_path: Path) -> None:
    tried, failures = READER.fuzz(tmp_path, seconds=30, seed=0, most=110)
    assert tried >= 11
    assert [each.what for each in failures] == []


def test_unchanged_logs_are_read(tmp_path: Path) -> None:
    for name, content in READER.seeds(tmp_path):
        (tmp_path / name).write_bytes(content)
        assert READER.read(tmp_path / name, "error") == ""
        assert READER.read_events([tmp_path / name]).report.rows_read >= 60


def test_a_failure_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr(READER, "read_events", broken)
    tried, failures = READER.fuzz(tmp_path, seconds=30, seed=0, most=3)
    assert (tried, len(failures)) == (3, 3)
    assert "IndexError" in failures[0].what


def test_mutations_repeat_by_seed() -> None:
    made = [[READER.mutated(b"1,2,view\n" * 9, random.Random(n)) for n in range(20)] for _ in "ab"]
    assert made[0] == made[1]
    assert len(set(made[0])) > 15
