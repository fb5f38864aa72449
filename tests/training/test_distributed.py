"""Two processes train what one would: the same losses, the same weights, one voice in failure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.models.base import Batch
from nmtr.training import trainer
from nmtr.training.distributed import Group
from nmtr.training.run import Settings, execute
from nmtr.training.selection import new_model
from nmtr.training.trainer import Training, train
from nmtr.training.weights import read_tensors

MODELS = {
    "nmtr-neumf": {"mlp_l2": 0.01, "l2": 0.02, "layers": (8, 4), "embedding": 8},
    "nmtr": {"activation": "tanh", "unit": "mlp", "layers": (8, 4), "embedding": 8},  # plain torch
    "mc-gmf": {"embedding": 8},
}
SCRIPT = """
import json, sys
from pathlib import Path
from nmtr.cli import run as _  # as the command line has it
from nmtr import cli
from nmtr.errors import DataError
from nmtr.data.interactions import load
from nmtr.training.distributed import joined
from nmtr.training.run import Settings, execute
from nmtr.training.trainer import Training

def command():
    data, out = load(Path(sys.argv[1])), Path(sys.argv[2])
    with joined() as group:
        for name, options in json.loads(sys.argv[3]).items():
            settings = Settings(name, "", options, Training(epochs=2, batch_size=700, threads=1))
            execute(data, settings, out / name)
        if not group.first:
            raise DataError("a disk is gone")
        group.decide(lambda: 0)

cli.application = lambda words: lambda *args, **options: command()
sys.exit(cli.run([]))
"""


def torchrun(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def curve(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    found = []
    for each in map(json.loads, lines):
        phase = each.pop("phase")
        found.append({f"{phase} {n}": v for n, v in each.items() if n != "seconds"})
    return found


def same(run: Path, other: Path) -> None:
    """The same losses and validation by epoch, the same weights, but for the order of sums."""
    ours, theirs = curve(run), curve(other)
    assert len(ours) > 3
    for one, two in zip(ours, theirs, strict=True):
        assert one == pytest.approx(two, rel=2e-6)
    weights, others = (read_tensors(each / "model.safetensors")[0] for each in (run, other))
    for name, each in weights.items():
        assert float((each - others[name]).norm()) < 1e-4 * float(others[name].norm())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_command_under_torchrun_trains_as_one_process_does(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path
) -> None:
    assert timed.path
    options = ["-s", "embedding=8", "-s", "epochs=3", "-s", "threads=1"]
    done = torchrun("-m", "nmtr", "train", timed.path, "--out", tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run in") == 1
    execute(timed, small(threads=1), tmp_path / "one")
    same(tmp_path / "two", tmp_path / "one")


def test_other_models_too_and_a_failed_process_ends_all_with_one_message(
    timed: Interactions, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    words = (timed.path or "", tmp_path / "two", json.dumps(MODELS))
    done = torchrun(tmp_path / "script.py", *words)
    assert done.returncode == 1
    assert re.findall("^nmtr: .*", done.stderr, re.MULTILINE) == [
        "nmtr: process 1 of 2: a disk is gone"
    ], done.stderr
    for name, options in MODELS.items():
        settings = Settings(name, "", options, Training(epochs=2, batch_size=700, threads=1))
        execute(timed, settings, tmp_path / name)
        same(tmp_path / "two" / name, tmp_path / name)


def test_alone_a_group_changes_nothing() -> None:
    group = Group()
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert group.share(7) == 1
    assert group.merge({"weight": weight}, 0.5) == 0.5
    assert weight.grad.tolist() == [3.0, 4.0]
    assert group.decide(lambda: "here") == "here"


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_of_a_batch_are_all_of_it(parts: int) -> None:
    rows = torch.arange(5)
    whole = Batch(rows, rows + 5, rows[:, None].float(), torch.ones(5, 1))
    found = [whole.part(place, parts) for place in range(parts)]
    assert torch.cat([each.item for each in found]).tolist() == whole.item.tolist()
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("name", ["bpr", "lightgcn"])
def test_models_that_cannot_be_divided_say_so(
    timed: Interactions, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.Group, "current", lambda: Group(0, 2))
    model = new_model(timed, Settings(name, "", {}, Training()))
    with pytest.raises(UsageError, match="cannot be divided among 2 processes"):
        train(model, timed.records(), Training(), phase="refit", epochs=1)
