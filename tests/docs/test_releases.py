"""What a release states about itself is of one form, and one version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

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
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited
    assert project["version"] == cited[1] == nmtr.__version__
