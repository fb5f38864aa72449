"""What starts a command line must not wait for torch."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    ["import nmtr", "from nmtr.models import names; assert 'nmtr-gmf' in names()"],
)
def test_models_are_named_without_importing_torch(code: str) -> None:
    script = f"{code}\nimport sys\nprint([m for m in ('torch', 'numba') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr


def test_names_are_those_of_the_files_and_the_paper_s_variants() -> None:
    from nmtr.models import names

    assert {"nmtr", "nmtr-gmf", "nmtr-mlp", "nmtr-neumf", "popularity", "replay"} <= set(names())
    assert not {"base", "losses", "units", "kernels", "embeddings"} & set(names())
    assert names() == sorted(names())
