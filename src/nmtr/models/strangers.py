"""Users of whom training knows nothing: the mean of those it knows stands in for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.records import Records


def known_users(records: Records) -> Tensor:
    """(M,) bool: which users have a record of any behaviour."""
    return torch.from_numpy(sum(each.lengths() for each in records.sets) > 0)


def user_rows(table: Tensor, known: Tensor, users: npt.NDArray[np.int64]) -> Tensor:
    """(B, E) rows of table (M, E) for users (B,); the mean of the known (M,) where one is not.

    A stranger is -1. Where nobody is known, zeros stand in.
    """
    index = torch.as_tensor(users, device=table.device)
    at = index.clamp(min=0)
    met = (index >= 0) & known[at]
    if bool(met.all()):  # the mean costs as much as all users
        return table[at]
    weights = known.to(table.dtype)
    mean = (weights @ table) / weights.sum().clamp(min=1)
    return torch.where(met[:, None], table[at], mean)
