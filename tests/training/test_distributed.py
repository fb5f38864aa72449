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

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nmtr.data.interactions import Interactions
from nmtr.errors import UsageError
from nmtr.models.base import Batch
from nmtr.models.nmtr import NMTR
from nmtr.training.distributed import Group
from nmtr.training.run import Settings, execute
from nmtr.training.selection import new_model
from nmtr.training.sharded import gathered, scores, shard
from nmtr.training.trainer import Training, train
from nmtr.training.weights import read_tensors

USERS = np.arange(0, 60, 7)
MODELS: dict[str, dict[str, Any]] = {
    "nmtr-neumf": {"mlp_l2": 0.01, "l2": 0.02, "layers": (8, 4), "embedding": 8},
    "nmtr": {"activation": "tanh", "unit": "mlp", "layers": (8, 4), "embedding": 8},  # plain torch
    "mc-gmf": {"embedding": 8},
}
HOW = Training(epochs=2, batch_size=700, threads=1)
SCRIPT = """
import sys
from pathlib import Path
from nmtr import cli
from nmtr.errors import DataError
from nmtr.data.interactions import load
from nmtr.training.distributed import joined
from nmtr.training.run import execute
from nmtr.training.weights import write_tensors
from tests_distributed import HOW, MODELS, sharded, settings

def command():
    data, out = load(Path(sys.argv[1])), Path(sys.argv[2])
    with joined() as group:
        for name in MODELS:
            execute(data, settings(name), out / name)
        for name in ("nmtr-gmf", "nmtr-neumf"):
            found = sharded(data, name, group)
            if group.first:
                write_tensors(out / f"sharded-{name}", found, {})
        if not group.first:
            raise DataError("a disk is gone")
        group.decide(lambda: 0)

cli.application = lambda words: lambda *args, **options: command()
sys.exit(cli.run(["train"]))
"""


def settings(name: str) -> Settings:
    return Settings(name, "", MODELS.get(name, {"embedding": 8, "l2": 0.02}), HOW)


def sharded(data: Interactions, name: str, group: Group) -> dict[str, Tensor]:
    """Train with the tables divided; the whole state, and the scores of some users."""
    model = new_model(data, settings(name))
    assert isinstance(model, NMTR)
    shard(model, group)
    assert len(model.user) == -(-data.n_users // group.world) - group.rank * (data.n_users % 2)
    train(model, data.records(), HOW, phase="refit", epochs=2)
    found = scores(model, group, data.records().histories(USERS))
    return {**gathered(model), "scores": found}


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
        apart = (each.float() - others[name].float()).norm()
        assert float(apart) <= 1e-4 * float(others[name].float().norm())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_command_under_torchrun_trains_as_one_process_does(
    timed: Interactions, small: Callable[..., Settings], tmp_path: Path
) -> None:
    assert timed.path
    options = ["--model", "nmtr-gmf", "-s", "embedding=8", "-s", "epochs=3", "-s", "threads=1"]
    done = torchrun("-m", "nmtr", "train", timed.path, "--out", tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run in") == 1
    execute(timed, small(threads=1), tmp_path / "one")
    same(tmp_path / "two", tmp_path / "one")


@pytest.fixture(scope="module")
def launched(
    timed: Interactions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Runs of several models by two processes, of which one fails at the end; what they said."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "tests_distributed.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    done = torchrun(folder / "script.py", timed.path or "", folder / "two")
    return folder / "two", done


@pytest.mark.parametrize("name", MODELS)
def test_whatever_the_model(
    timed: Interactions, launched: tuple[Path, Any], tmp_path: Path, name: str
) -> None:
    execute(timed, settings(name), tmp_path / "one")
    same(launched[0] / name, tmp_path / "one")


def test_a_failed_process_ends_all_with_one_message(
    launched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    done = launched[1]
    assert done.returncode == 1
    said = re.findall("^nmtr: .*", done.stderr, re.MULTILINE)
    assert said == ["nmtr: process 1 of 2: a disk is gone"], done.stderr


@pytest.mark.parametrize("name", ["nmtr-gmf", "nmtr-neumf"])
def test_divided_tables_learn_and_score_as_whole_ones_do(
    timed: Interactions, launched: tuple[Path, Any], name: str
) -> None:
    found, _ = read_tensors(launched[0] / f"sharded-{name}")
    model = new_model(timed, settings(name))
    train(model, timed.records(), HOW, phase="refit", epochs=2)
    for key, each in model.state_dict().items():
        assert float((found[key] - each).norm()) <= 1e-4 * float(each.norm())
    histories = timed.records().histories(USERS)
    with torch.no_grad():
        expected = model.score(model.encode(histories), histories)
    torch.testing.assert_close(found["scores"], expected, rtol=1e-4, atol=1e-5)


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
    monkeypatch.setattr(Group, "current", lambda: Group(0, 2))
    model = new_model(timed, Settings(name, "", {}, Training()))
    with pytest.raises(UsageError, match="cannot be divided among 2 processes"):
        train(model, timed.records(), Training(), phase="refit", epochs=1)
