"""The top K of items in blocks is that of all items at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.evaluation import itemblocks
from nmtr.evaluation.ranking import top
from nmtr.models.base import Model, Shape


class Table(Model):
    """Scores that are given: a row for each user."""

    def __init__(self, scores: npt.NDArray[np.float32]) -> None:
        super().__init__(None, Shape(scores.shape[0], scores.shape[1], ("low", "high")))
        self.scores = torch.from_numpy(scores)

    def encode(self, histories: Histories) -> Tensor:
        return self.scores[torch.as_tensor(histories.users)]

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        chosen = state if items is None else state[:, items]
        return torch.stack([-chosen, chosen], 1)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(3, 14), st.integers(1, 16))
def test_blocks_give_the_top_of_all_ties_and_masks_and_no_numbers_too(
    data: st.DataObject, block: int, n_items: int, k: int
) -> None:
    values = st.sampled_from([0.0, 1.0, 2.0, -1.0, np.nan, np.inf, -np.inf])
    lines = st.lists(values, min_size=n_items, max_size=n_items)
    scores = np.array(data.draw(st.lists(lines, min_size=1, max_size=4)), np.float32)
    users = len(scores)
    hidden = data.draw(st.lists(st.tuples(st.integers(0, users - 1), st.integers(0, n_items - 1))))
    rows, columns = (np.array([each[at] for each in hidden], np.int64) for at in (0, 1))
    mask = CSR.from_pairs(rows, columns, users, n_items)
    order = np.array(data.draw(st.permutations(range(n_items))), np.uint64)
    nothing = CSR.from_pairs([], [], users, n_items)
    histories = Records(("low", "high"), (nothing, nothing)).histories(np.arange(users))
    model = Table(scores)
    found = []
    for size in (block, n_items):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(itemblocks, "ITEMS", size)
            patch.setattr(itemblocks, "USERS", 2)
            found.append(top(model, histories, mask, k=k, tie_break=order))
    for one, other in zip(*found, strict=True):
        assert one.tolist() == other.tolist()
