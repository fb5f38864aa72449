"""Users' states: as trained, or folded in where their history is not what training knew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmtr.data.records import Histories
from nmtr.models.base import Model
from nmtr.serving.cache import Cache
from nmtr.serving.histories import Current, Items, Ledger, together
from nmtr.serving.requests import Basis

KEPT = 20_000  # users whose folded state is kept


class States:
    """Knows the state of each user.

    stranger: (1, E) the state of who is not known; trained_users: (M,) whom the model was trained
    on, if not all.
    """

    def __init__(
        self,
        model: Model,
        ledger: Ledger,
        stranger: Tensor,
        trained_users: npt.NDArray[np.bool_] | None,
        negatives: tuple[int, ...],
    ) -> None:
        self.model, self.ledger, self.stranger = model, ledger, stranger
        self.trained_users = trained_users
        self.folding = model.folding(negatives)
        self._folded: Cache[Tensor] = Cache(KEPT)

    def trained(self, user: Current) -> bool:
        """Whether training met the user."""
        if user.index < 0:
            return False
        return self.trained_users is None or bool(self.trained_users[user.index])

    def basis(self, user: Current) -> Basis:
        """What a user is recommended by."""
        follows = self.folding is not None or self.model.reads
        if self.trained(user):
            return "fold-in" if user.changed and follows else "model"
        return "fold-in" if any(map(len, user.items)) and follows else "popular"

    def of(self, users: Sequence[Current]) -> tuple[Tensor, Histories]:
        """(B, E) the users' states, and their histories as the model meets them."""
        histories = self._met(users)
        bases = [self.basis(each) for each in users]
        as_trained = [row for row, each in enumerate(bases) if each == "model"]
        with torch.inference_mode():
            if len(as_trained) == len(users):
                return self.model.encode(histories), histories
            state = self.stranger.repeat(len(users), 1)
            if as_trained:
                state[as_trained] = self.model.encode(self._met([users[n] for n in as_trained]))
            for row, basis in enumerate(bases):
                if basis == "fold-in":
                    state[row] = self._folded_in(users[row])
        return state, histories

    def _met(self, users: Sequence[Current]) -> Histories:
        index = [each.index if self.trained(each) else -1 for each in users]
        rows, times = [each.items for each in users], [each.times for each in users]
        return together(index, rows, self.model.shape.n_items, times)

    def histories(self, user: Current, rows: Sequence[Sequence[Items]]) -> Histories:
        """One user's histories, B of them, as the model meets them."""
        index = [user.index if self.trained(user) else -1] * len(rows)
        times = [user.times_of(each) for each in rows]
        return together(index, rows, self.model.shape.n_items, times)

    def _folded_in(self, user: Current) -> Tensor:
        """(E,) one user's state; the last ones folded in are kept."""
        arrays: tuple[npt.NDArray[Any], ...] = (*user.items, *(user.times or ()))
        key = (user.index, *(each.tobytes() for each in arrays))
        found = self._folded.get(key)
        if found is None:
            (found,) = self.fold(user, [user.items])
            self._folded.put(key, found)
        return found

    def under(self, user: Current, rows: Sequence[Sequence[Items]]) -> Tensor:
        """(B, E) the user's state under B histories, of which some may be what training knew."""
        before = self.ledger.before(user.index)
        if self.trained(user) and all(_same(each, before) for each in rows):
            return self._start(user).expand(len(rows), -1)
        return self.fold(user, rows)

    def fold(self, user: Current, rows: Sequence[Sequence[Items]]) -> Tensor:
        """(B, E) the user's state under B histories other than what training knew."""
        before = self.ledger.before(user.index if self.trained(user) else -1)
        with torch.inference_mode():
            histories = self.histories(user, rows)
            if self.folding is None:
                return self.model.encode(histories)
            start = self._start(user).expand(len(rows), -1)
            return self.folding(histories, start, self.histories(user, [before] * len(rows)))

    def _start(self, user: Current) -> Tensor:
        """(1, E) the state as trained, a stranger's where training never met the user."""
        if not self.trained(user):
            return self.stranger
        before = self.ledger.before(user.index)
        with torch.inference_mode():
            return self.model.encode(self.histories(user, [before]))


def _same(one: Sequence[Items], other: Sequence[Items]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
