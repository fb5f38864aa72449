"""Items' nearest others, as tables: scores are sums over the rows of a user's items."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

BLOCK_CELLS = 4_000_000  # cells of a table looked at at once: 16 MB of float32


def table_sums(columns: Tensor, values: Tensor, x: csr_array, n: int) -> Tensor:
    """(rows, n) sums over x (rows, T) of the weighted rows of a table.

    columns, values: (T, k) where the cells of each row stand, 0 to n - 1, and what they hold.
    """
    device, k = values.device, columns.shape[1]
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    row, at, weight = (torch.from_numpy(each).to(device) for each in (rows, x.indices, x.data))
    found = torch.zeros(x.shape[0] * n, device=device)
    step = max(1, BLOCK_CELLS // k)
    for start in range(0, len(at), step):
        part = slice(start, start + step)
        cells = columns[at[part]] + row[part, None] * n
        shares = values[at[part]] * weight[part, None]
        found.index_add_(0, cells.flatten(), shares.flatten())
    return found.view(-1, n)
