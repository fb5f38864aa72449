"""The index of one id in microseconds, by its hash, without a table in memory."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from nmtr.data.vocabulary import Vocabulary, hash_text

WHOLE = re.compile(r"[+-]?\d+")


class Lookup:
    """Finds ids of a vocabulary one by one.

    hashes: (n,) vocabulary.hash_ids of the ids; order: (n,) their indices by ascending hash.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        hashes: npt.NDArray[np.uint64],
        order: npt.NDArray[np.integer] | None = None,
    ) -> None:
        self.vocabulary, self.hashes = vocabulary, hashes
        self.order = np.argsort(hashes) if order is None else order
        self._whole = vocabulary.ids.dtype.is_integer()

    def index(self, given: object) -> int:
        """The index of an id, -1 where it is unknown; text and integers are matched by value."""
        text = self._text(given)
        if text is None:
            return -1
        wanted = np.uint64(hash_text(text))
        at = int(np.searchsorted(self.hashes, wanted, sorter=self.order))
        while at < len(self.order) and self.hashes[found := int(self.order[at])] == wanted:
            if str(self.vocabulary.ids[found]) == text:
                return found
            at += 1
        return -1

    def _text(self, given: object) -> str | None:
        """The id as the vocabulary would write it; None for what cannot be one of its ids."""
        if given is None or isinstance(given, bool):
            return None
        text = str(given)
        if not self._whole:
            return text
        return str(int(text)) if WHOLE.fullmatch(text) and len(text) < 21 else None
