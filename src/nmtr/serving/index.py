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
ROOM = 8  # items looked at for each that is asked for, at the least
ROUND = 1e-3  # of the mean square, so that no direction counts for nothing
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
    """Finds the items whose vectors (N, D) have the greatest products with a user's (D,).

    Lists are about centres by distance, so vectors are first turned until a near one is one of a
    great product: the items' mean, which moves no order, is taken off, users' directions are made
    alike by their second moment (a product q . x is that of A^-1 q and A^T x), and a last number
    makes all items equally long (Bachrach et al., RecSys 2014).
    """

    def __init__(self, vectors: Floats, users: Floats | None = None) -> None:
        """users: (U, D) some users' vectors, by which lists are laid out."""
        library = faiss()
        self.n_items, self.lists = len(vectors), 1
        self._turn: Floats | None = None
        if self.n_items <= EXACT:
            self._index = library.IndexFlatIP(vectors.shape[1])
            self._index.add(vectors)
            return
        self.lists = int(4 * self.n_items**0.5)
        turned = vectors - vectors.mean(0)
        if users is not None:
            self._turn = spread(users)
            turned = turned @ self._turn
        squares = np.einsum("nd,nd->n", turned, turned)
        left = np.sqrt(np.maximum(squares.max() - squares, 0))
        turned = np.concatenate([turned, left[:, None]], 1).astype(np.float32)
        self._centres = library.IndexFlatL2(turned.shape[1])
        self._index = library.IndexIVFFlat(self._centres, turned.shape[1], self.lists)
        self._index.cp.niter = 8
        self._index.cp.min_points_per_centroid = 1
        self._index.cp.max_points_per_centroid = SAMPLE
        self._threads(library)
        self._index.train(turned)
        self._index.add(turned)

    def search(self, queries: Floats, count: int) -> Ints:
        """(B, count) the items found for users (B, D), best first, -1 where there are less.

        All items are looked at where an eighth of them is asked for.
        """
        library = faiss()
        self._threads(library)
        how: dict[str, Any] = {}
        if self.lists > 1:
            share = min(1.0, max(SHARE, ROOM * count / self.n_items))
            probes = int(np.ceil(share * self.lists))
            how["params"] = library.SearchParametersIVF(nprobe=probes)
            if self._turn is not None:
                queries = np.linalg.solve(self._turn, queries.T).T
            queries = np.pad(queries, ((0, 0), (0, 1))).astype(np.float32)
        found: npt.NDArray[np.int64] = self._index.search(queries, count, **how)[1]
        return found

    @staticmethod
    def _threads(library: Any) -> None:
        library.omp_set_num_threads(torch.get_num_threads())


def spread(users: Floats) -> Floats:
    """(D, D) A with A A^T the second moment of users' vectors (U, D), a little round."""
    wide = users.astype(np.float64)
    moment = wide.T @ wide / max(len(wide), 1)
    ridge = ROUND * np.trace(moment) / len(moment) + 1e-12
    found: Floats = np.linalg.cholesky(moment + ridge * np.eye(len(moment))).astype(np.float32)
    return found
