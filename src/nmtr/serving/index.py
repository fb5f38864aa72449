"""An index of items by inner product, as faiss has it: an inverted file of the items' vectors.

Lists rather than a graph: thousands of candidates are asked for, which a graph walks to one by one,
and lists take a hundredth of the time to build.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nmtr.errors import UsageError
from nmtr.models.kernels import Floats, Ints

EXACT = 2**14  # items up to which every one is looked at
SHARE = 1 / 16  # of the lists that are looked into, at the least
ROOM = 4  # items looked at for each that is asked for, at the least
SAMPLE = 32  # items a list that its centre is found from


def faiss() -> Any:
    """The library; raises UsageError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            f"candidates are found by faiss, which is not here: pip install 'nmtr[ann]' ({error})"
        ) from error
    return faiss


class Index:
    """Finds the items whose vectors (N, D) have the greatest products with a user's."""

    def __init__(self, vectors: Floats) -> None:
        library, (n, width) = faiss(), vectors.shape
        self.n_items, self.lists = n, 1
        if n <= EXACT:
            self._index = library.IndexFlatIP(width)
        else:
            self.lists = int(4 * n**0.5)
            centres = library.IndexFlatIP(width)
            kind = library.METRIC_INNER_PRODUCT
            self._index = library.IndexIVFFlat(centres, width, self.lists, kind)
            self._index.cp.spherical = True  # or the longest vectors' centres would take all users
            self._index.cp.niter = 8
            self._index.cp.min_points_per_centroid = 1
            self._index.cp.max_points_per_centroid = SAMPLE
            self._threads(library)
            self._index.train(vectors)
        self._index.add(vectors)
        self._centres = centres if self.lists > 1 else None

    def search(self, queries: Floats, count: int) -> Ints:
        """(B, count) the items found for users (B, D), best first, -1 where there are less.

        All items are looked at where a quarter of them is asked for.
        """
        library = faiss()
        self._threads(library)
        how: dict[str, Any] = {}
        if self.lists > 1:
            share = min(1.0, max(SHARE, ROOM * count / self.n_items))
            probes = int(np.ceil(share * self.lists))
            how["params"] = library.SearchParametersIVF(nprobe=probes)
        found: npt.NDArray[np.int64] = self._index.search(queries, count, **how)[1]
        return found

    @staticmethod
    def _threads(library: Any) -> None:
        library.omp_set_num_threads(torch.get_num_threads())
