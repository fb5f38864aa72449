"""The contract of a model: histories in, scores of every behaviour out.

Letters: B users of a batch (or rows of a training batch), N items, R behaviours, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nmtr.data.features import Features
from nmtr.data.records import Histories, Records
from nmtr.models.kernels.pairs import Cascade
from nmtr.models.levels import Levels

Pass = Callable[["Batch"], float]  # a batch, to its mean loss before the step that was made on it
Sweep = Callable[[int], float]  # a seed, to the mean loss of the epoch that it decides
# Histories, the states (B, E) that were right for the histories before, and those, to new states.
Folding = Callable[[Histories, Tensor, Histories], Tensor]


@dataclass(frozen=True)
class Shape:
    """What a model is sized by, and the attributes of users and items where there are any."""

    n_users: int
    n_items: int
    behaviors: tuple[str, ...]
    features: Features = field(default=Features(), compare=False, repr=False)

    @property
    def n_behaviors(self) -> int:
        return len(self.behaviors)


@dataclass(frozen=True)
class Batch:
    """Labelled pairs, pair-major; an absent task weighs 0.

    user, item: (B,) int64; target, weight: (B, R) float32.
    """

    user: Tensor
    item: Tensor
    target: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        rows = self.user.shape
        if (
            len(rows) != 1
            or self.item.shape != rows
            or self.target.shape != self.weight.shape
            or self.target.shape[:1] != rows
            or len(self.target.shape) != 2
        ):
            raise ValueError(
                "a batch needs user (B,), item (B,), target (B, R), weight (B, R); got "
                f"{tuple(rows)}, {tuple(self.item.shape)}, {tuple(self.target.shape)}, "
                f"{tuple(self.weight.shape)}"
            )

    def __len__(self) -> int:
        return len(self.user)

    def part(self, place: int, parts: int) -> Batch:
        """One of so many equal parts, by rows."""
        cut = slice(len(self) * place // parts, len(self) * (place + 1) // parts)
        return Batch(*(each[cut] for each in (self.user, self.item, self.target, self.weight)))

    def to(self, device: torch.device) -> Batch:
        return Batch(
            *(each.to(device) for each in (self.user, self.item, self.target, self.weight))
        )


class Model(nn.Module):
    """A recommender. What it has learned is its `state_dict`; what it is told is its config.

    A model either counts (`learn`) or is trained (`trained = True`): by the gradient of its `loss`
    on batches, or, where it `sweeps`, by an epoch of its own.

    probabilistic: its scores are log odds of records, but for the sampling of negatives: it is
    trained by a log loss. learns: the behaviours whose records train it; its batches have a column
    for each. levels: where its negatives are drawn by levels of preference; a batch then has one
    column, preferred or not. warm_up: so many first epochs are another loss's, and are not chosen.
    reads: encode makes states of histories alone, whoever's they are. describes: it learns from
    attributes, so that it has a state for users whom training did not meet. divides: its loss is a
    mean over the rows of a batch, so that several processes may each take a part of them. whole: a
    batch is all records of some users, without negatives. timed: it looks at the times of records.
    """

    trained: ClassVar[bool] = False
    sweeps: ClassVar[bool] = False
    probabilistic: ClassVar[bool] = False
    reads: ClassVar[bool] = False
    describes: ClassVar[bool] = False
    divides: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    timed: bool = False
    levels: Levels | None = None
    warm_up: int = 0

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.learns = shape.behaviors

    def learn(self, records: Records) -> None:
        """Take from the training records what needs no gradient."""

    def sweep(self, records: Records, *, rate: float, negatives: int) -> Sweep:
        """What trains on the records of `learns`, in place, an epoch a call."""
        raise TypeError(f"{type(self).__name__} has no sweep; it is not trained by one")

    def begin(self, epoch: int) -> None:
        """Be told which epoch of training comes, from 0."""

    def rate_shares(self) -> dict[str, float]:
        """Parameters that learn at a share of the learning rate, by their names."""
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """The training objective on one batch, a scalar."""
        how = "trains by its sweep" if self.sweeps else "counts"
        raise TypeError(f"{type(self).__name__} {how}; it has no loss")

    def adagrad(self, squares: Mapping[str, Tensor], rate: float, epsilon: float) -> Pass | None:
        """What does all that `loss`, its gradient and a step of Adagrad do, in one compiled pass.

        squares: Adagrad's sums by the parameters' names, moved in place as those are. None where
        there is no such pass.
        """
        return None

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) what the model knows of each user, once for any number of items."""
        raise TypeError(f"{type(self).__name__} does not define encode")

    def folding(self, negatives: tuple[int, ...]) -> Folding | None:
        """What solves for the states of users whose histories training did not see.

        None where `encode` reads histories, or where no such way is known. negatives: those of
        training, one count or one for each behaviour.
        """
        return None

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        """(B, R, N) logits of each behaviour for all items, or for the `items` (N,) given."""
        raise TypeError(f"{type(self).__name__} does not define score_behaviors")

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        """(B, N) logits of the target behaviour."""
        return self.score_behaviors(state, histories, items)[:, -1]

    def cascade(self, state: Tensor, like: Cascade | None = None) -> Cascade | None:
        """What a pruned ranking of these users reads; None where scores come by `score` alone.

        like: one made before from the same weights, whose items need not be gone through again.
        """
        return None

    def item_vectors(self) -> Tensor | None:
        """(N, any) vectors of which the target's score is made; None where there are none."""
        return None

    def index_vectors(self) -> Tensor | None:
        """(N, D + 1) what an index of items holds, a bias last; None where scores are no products.

        A row's vector times a user's of `index_queries`, plus its bias, orders items as scores of
        the target do, or, in a cascade by probability, is at most 1 below them.
        """
        return None

    def index_queries(self, state: Tensor) -> Tensor:
        """(B, D) what such an index is asked for users of these states."""
        return state

    def alike(self, items: Tensor) -> Tensor | None:
        """(n, N) how alike `items` (n,) and all items are to the model; None where it cannot tell.

        Cosines of the items' vectors, where it has those.
        """
        vectors = self.item_vectors()
        if vectors is None:
            return None
        length = vectors.norm(dim=1).clamp(min=1e-30)
        found: Tensor = (vectors[items] @ vectors.T) / length[items, None] / length
        return found

    def check_batch(self, batch: Batch) -> None:
        """Raise ValueError where a batch does not fit the model's shape."""
        if batch.target.shape[1] != len(self.learns):
            raise ValueError(
                f"expected a batch of {len(self.learns)} behaviours "
                f"({', '.join(self.learns)}), got {batch.target.shape[1]}"
            )
        if not len(batch):
            return
        sizes = (("user", batch.user, self.shape.n_users), ("item", batch.item, self.shape.n_items))
        for name, index, size in sizes:
            # On a GPU the bounds are checked by the look-up itself, without a wait.
            if index.is_cpu and (int(index.min()) < 0 or int(index.max()) >= size):
                raise ValueError(
                    f"expected {name} indices from 0 to {size - 1}, got {int(index.min())} to "
                    f"{int(index.max())}"
                )

    def check_histories(self, histories: Histories) -> None:
        """Raise ValueError where histories do not fit the model's shape."""
        found = (len(histories.items), histories.items[0].n_columns)
        expected = (self.shape.n_behaviors, self.shape.n_items)
        if found != expected:
            raise ValueError(
                f"expected histories of {expected[0]} behaviours over {expected[1]} items, got "
                f"{found[0]} behaviours over {found[1]} items"
            )
        highest = int(histories.users.max(initial=-1))
        if highest >= self.shape.n_users:
            raise ValueError(
                f"user index {highest} is not below the model's {self.shape.n_users} users"
            )
