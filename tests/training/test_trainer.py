"""Training keeps its best epoch, says when it diverges, and survives a kill to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR, Records
from nmtr.errors import DamagedError, DataError, NmtrError
from nmtr.models import make
from nmtr.models.base import Model, Shape
from nmtr.training.trainer import Training, train
from nmtr.training.weights import read_tensors

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def records(timed: Interactions) -> Records:
    return timed.records()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new(records: Records, name: str = "nmtr-gmf", **options: Any) -> Model:
    torch.manual_seed(0)
    shape = Shape(records.n_users, records.n_items, records.behaviors)
    return make(name, {"embedding": 8, **options}, shape)


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def scripted(values: list[float], seen: list[Weights]) -> Callable[[Model], dict[str, float]]:
    """A validation whose results are written down; it keeps the weights that it was shown."""

    def measure(model: Model) -> dict[str, float]:
        seen.append({name: each.clone() for name, each in model.state_dict().items()})
        return {"ndcg@100": values[len(seen) - 1]}

    return measure


def test_early_stopping_ends_after_patience_with_the_weights_of_the_best_epoch(
    records: Records,
) -> None:
    seen: list[Weights] = []
    model = new(records)
    measure = scripted([0.1, 0.5, 0.4, 0.3, 0.9], seen)
    progress = train(
        model, records, Training(patience=2), phase="selection", epochs=5, measure=measure
    )
    assert (progress.best_epoch, progress.best_value, progress.epochs_done) == (2, 0.5, 4)
    assert equal(model.state_dict(), seen[1])
    assert not equal(seen[1], seen[3])


def test_of_equally_good_epochs_the_first_is_kept(records: Records) -> None:
    measure = scripted([0.2, 0.5, 0.5], [])
    progress = train(
        new(records), records, Training(), phase="selection", epochs=3, measure=measure
    )
    assert progress.best_epoch == 2


def test_training_lowers_the_loss(records: Records) -> None:
    history = train(new(records), records, Training(), phase="refit", epochs=4).history
    losses = [line["loss"] for line in history]
    assert losses == sorted(losses, reverse=True)
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("batch_size", "l2"),
    [(512, 0.0), (10**6, 1e9)],  # in the second, no later step meets the weight that overflowed
)
def test_divergence_is_an_error_that_names_the_learning_rate(
    records: Records, batch_size: int, l2: float
) -> None:
    config = Training(optimizer="sgd", learning_rate=1e38, batch_size=batch_size)
    with pytest.raises(NmtrError, match=r"diverged.*lower learning_rate \(it is 1e\+38\)"):
        train(new(records, l2=l2), records, config, phase="refit", epochs=1)


def test_nothing_to_train_on_is_an_error(records: Records) -> None:
    nothing = CSR.from_keys(
        torch.empty(0, dtype=torch.int64).numpy(), records.n_users, records.n_items
    )
    empty = Records(records.behaviors, (nothing,) * 3)
    with pytest.raises(DataError, match="no record is left"):
        train(new(records), empty, Training(), phase="calibration", epochs=1)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(records: Records) -> None:
    def trained(seed: int) -> Weights:
        model = new(records, "nmtr-mlp", dropout=0.2)
        train(model, records, Training(seed=seed), phase="refit", epochs=1)
        return model.state_dict()

    assert equal(trained(0), trained(0))
    assert not equal(trained(0), trained(1))


KILLED = """
import sys
from pathlib import Path
import torch
from nmtr.data.interactions import load
from nmtr.models import make
from nmtr.models.base import Shape
from nmtr.training.trainer import Training, train

torch.set_num_threads(1)
torch.manual_seed(0)
records = load(Path(sys.argv[1])).records()
shape = Shape(records.n_users, records.n_items, records.behaviors)
model = make("nmtr-mlp", {"embedding": 8, "dropout": 0.2}, shape)
config = Training(optimizer=sys.argv[3], learning_rate=0.01)
path = Path(sys.argv[2])
train(model, records, config, phase="refit", epochs=10**6, checkpoint=path, checkpoint_seconds=0)
"""


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(
    timed: Interactions, records: Records, tmp_path: Path, optimizer: str
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    words = [sys.executable, "-c", KILLED, str(timed.path), str(checkpoint), optimizer]
    process = subprocess.Popen(words)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = read_tensors(checkpoint)[1]["epochs_done"]  # whole, whenever the kill came
    assert done >= 1

    config = Training(optimizer=optimizer, learning_rate=0.01)
    resumed, straight = (new(records, "nmtr-mlp", dropout=0.2) for _ in range(2))
    how = {"phase": "refit", "epochs": done + 2}
    torch.manual_seed(12345)  # the state of the generator must come from the checkpoint
    after = train(resumed, records, config, checkpoint=checkpoint, **how)
    straight = new(records, "nmtr-mlp", dropout=0.2)
    before = train(straight, records, config, **how)
    assert equal(resumed.state_dict(), straight.state_dict())
    assert [each["loss"] for each in after.history] == [each["loss"] for each in before.history]


def test_early_stopping_goes_on_across_a_kill(records: Records, tmp_path: Path) -> None:
    """The best epoch before the kill still wins after it, and patience counts through."""
    values = [0.1, 0.5, 0.4, 0.3]
    path = tmp_path / "checkpoint.safetensors"
    seen: list[Weights] = []
    measure = scripted(values, seen)
    how: dict[str, Any] = {"phase": "selection", "checkpoint": path, "checkpoint_seconds": 0}
    train(new(records), records, Training(patience=2), epochs=3, measure=measure, **how)
    model = new(records)
    progress = train(model, records, Training(patience=2), epochs=9, measure=measure, **how)
    assert (progress.best_epoch, progress.epochs_done, len(seen)) == (2, 4, 4)
    assert equal(model.state_dict(), seen[1])


def test_a_checkpoint_of_another_phase_is_not_taken_up(records: Records, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    how: dict[str, Any] = {"epochs": 1, "checkpoint": path, "checkpoint_seconds": 0}
    train(new(records), records, Training(), phase="selection", **how)
    progress = train(new(records), records, Training(), phase="refit", **how)
    assert [each["phase"] for each in progress.history] == ["refit"]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_last(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def empty(content: bytes) -> bytes:
    return content[:0]


@pytest.mark.parametrize("damage", [cut, flip_last, empty])
def test_a_damaged_checkpoint_is_refused(
    records: Records, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    how: dict[str, Any] = {"phase": "refit", "checkpoint": path, "checkpoint_seconds": 0}
    train(new(records), records, Training(), epochs=1, **how)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedError, match="delete it to start over"):
        train(new(records), records, Training(), epochs=2, **how)


def test_a_checkpoint_of_another_model_is_refused(records: Records, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    how: dict[str, Any] = {"phase": "refit", "checkpoint": path, "checkpoint_seconds": 0}
    train(new(records), records, Training(), epochs=1, **how)
    with pytest.raises(DamagedError):
        train(new(records, embedding=4), records, Training(), epochs=2, **how)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": 1e39},
        {"batch_size": 0},
        {"epochs": -1},
        {"negatives": ()},
        {"negatives": (0,)},
        {"negative_rule": "any"},
        {"device": "tpu"},
        {"seed": -1},
        {"seed": 2**64},
        {"patience": 0},
    ],
)
def test_training_refuses_what_it_cannot_do(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Training(**wrong)
