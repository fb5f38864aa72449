"""Tensors on disk: safetensors with a checksum, whole or not at all."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nmtr.files import replace_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write named tensors, and beside them what `about` says (anything that JSON holds)."""
    found = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    with replace_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        # One key, as safetensors writes several in any order and a file should repeat to the byte.
        stated = json.dumps({"crc32": _checksum(found), "about": about})
        save_file(found, temporary, {"nmtr": stated})
        temporary.chmod(mode)  # safetensors leaves it readable to its owner alone


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What write_tensors wrote; raises ValueError, or another error, where it is damaged."""
    with safe_open(path, "pt") as stream:
        stated = json.loads(stream.metadata()["nmtr"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    if stated["crc32"] != _checksum(tensors):
        raise ValueError("its contents are not those that were written")
    return tensors, stated["about"]


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, total)
    return total
