"""Per-user values on disk: what a report's means are made of, and what tests of models pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmtr.errors import DamagedError
from nmtr.evaluation.report import SLICES, Result
from nmtr.files import replace_file

USERS = "users"


def save_vectors(results: Sequence[Result], path: Path) -> None:
    """Write every per-user value, an .npz of `MODEL/SLICE/users` and `MODEL/SLICE/METRIC`."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for result in results:
        for part, values in result.values.items():
            arrays[f"{result.model}/{part}/{USERS}"] = result.users[part]
            for metric, each in values.items():
                arrays[f"{result.model}/{part}/{metric}"] = each.astype(np.float32)
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag here too


def load_vectors(path: Path) -> dict[str, Result]:
    """What save_vectors wrote, by model; raises DamagedError where it cannot be read."""
    found: dict[str, Result] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                model, part, name = key.split("/")
                result = found.setdefault(model, Result(model, {}, {each: {} for each in SLICES}))
                kind: Any = result.users if name == USERS else result.values[part]
                kind[part if name == USERS else name] = arrays[key].astype(
                    np.int64 if name == USERS else np.float64
                )
    except Exception as error:  # zipfile, numpy and zlib each raise their own kinds
        raise DamagedError(f"{path} cannot be read ({error}); evaluate the run again") from error
    return found
