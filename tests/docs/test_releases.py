"""What a release states about itself is of one form, and one version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import nmtr

ROOT = Path(__file__).parents[2]
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
RELEASE = re.compile(r"## \[(Unreleased|\d+\.\d+\.\d+)\](?: - \d{4}-\d{2}-\d{2})?$")


def test_the_changelog_is_as_keep_a_changelog_has_it() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    for line in releases:
        found = RELEASE.match(line)
        assert found, line
        assert (found[1] == "Unreleased") == ("-" not in line), "a release has its date"
    assert {line[4:] for line in lines if line.startswith("### ")} <= set(KINDS)
    entries = lines[lines.index(releases[0]) :]
    assert all(not line or line.startswith(("## ", "### ", "- ", "  ")) for line in entries)


def test_every_place_states_one_version() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert stated["project"]["dynamic"] == ["version"]
    assert (ROOT / stated["tool"]["hatch"]["version"]["path"]).samefile(str(nmtr.__file__))
    cited = found(r"^version: (.+)$", "CITATION.cff")
    assert cited == [nmtr.__version__]
    released = found(r"^## \[(\d.+)\] - (.+)$", "CHANGELOG.md")[0]
    assert released == (nmtr.__version__, *found(r"^date-released: (.+)$", "CITATION.cff"))


@pytest.mark.skipif(not (ROOT / "deploy").is_dir(), reason="a source distribution has none")
def test_what_is_deployed_is_this_version() -> None:
    files = [each.name for each in (ROOT / "deploy").glob("*.yaml")]
    tags = [tag for each in files for tag in found(r"\bnmtr(?:-ray)?:(\d[\w.]*)", f"deploy/{each}")]
    assert len(tags) >= 4
    assert set(tags) == {nmtr.__version__}


def found(pattern: str, name: str) -> list[Any]:
    return re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
