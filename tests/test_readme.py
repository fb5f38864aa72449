"""The README's Python example runs as it stands, beside a demo's folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nmtr.data.simulator import SimulatorConfig, simulate

ROOT = Path(__file__).parent.parent


def test_the_library_example_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(SimulatorConfig(users=200, items=100, events=12_000), tmp_path / "demo" / "shop")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    assert "item_id" in capsys.readouterr().out
    assert (tmp_path / "my-model" / "model.safetensors").exists()


def test_links_in_readme_and_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
