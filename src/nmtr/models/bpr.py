"""BPR: matrix factorisation that ranks each user's target items above others.

Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009:

    x_ui = p_u . q_i + b_i
    L = sum over (u, i, j) of log(1 + exp(x_uj - x_ui)) + l2 / 2 of the squares of p_u, q_i, q_j,
        b_i and b_j,      i a target item of u, j drawn from the others

It is trained by its own sweep: plain SGD, a positive at a time, an epoch being one negative for
each target pair. It knows the target only; its scores, which are not log odds, stand for every
behaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nmtr.data.records import Histories, Records
from nmtr.models.base import Folding, Model, Shape, Sweep
from nmtr.models.embeddings import with_bias
from nmtr.models.foldin import LogLossFolding, Value
from nmtr.models.kernels import Ints
from nmtr.models.kernels.bpr import bpr_users
from nmtr.models.kernels.threads import even_cuts, in_threads
from nmtr.models.levels import LevelPairs, Levels
from nmtr.models.space import Range, Space, Whole
from nmtr.models.strangers import known_users, user_rows

LEAST = 50_000  # pairs a thread is worth
ONE_LEVEL = Levels((1.0,), beta=1.0)
# Users and a number of chance, to the sum of the losses and of how many triples.
Visit = Callable[[Ints, np.uint64], tuple[float, int]]


@dataclass(frozen=True)
class Config:
    """BPR's settings.

    l2: of a step on its three vectors and two biases. init_std: of the vectors at the start.
    """

    embedding: int = 64
    l2: float = 0.02
    init_std: float = 0.1

    def __post_init__(self) -> None:
        if self.embedding < 1:
            raise ValueError(f"embedding: expected 1 or more, got {self.embedding}")
        if not (self.l2 >= 0 and self.init_std > 0):  # a NaN is neither
            raise ValueError(
                f"expected l2 >= 0 and init_std > 0, got {self.l2} and {self.init_std}"
            )

    def space(self) -> Space:
        return {
            "l2": Range(1e-3, 0.3, log=True, least=1e-6),
            "learning_rate": Range(0.01, 0.3, log=True),
            "negatives": Whole(1, 8),
        }


class BPR(Model):
    """Scores p_u . q_i + b_i, alike for every behaviour."""

    trained = True
    sweeps = True
    known: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.learns = shape.behaviors[-1:]
        size, std = config.embedding, config.init_std
        self.user = nn.Parameter(torch.empty(shape.n_users, size).normal_(0, std))
        self.item = nn.Parameter(torch.empty(shape.n_items, size).normal_(0, std))
        self.bias = nn.Parameter(torch.zeros(shape.n_items))
        self.register_buffer("known", torch.zeros(shape.n_users, dtype=torch.bool))

    def learn(self, records: Records) -> None:
        self.known = known_users(records.only(self.learns))

    def sweep(self, records: Records, *, rate: float, negatives: int) -> Sweep:
        """An epoch of SGD in place.

        On one thread a seed decides it. On several, the users are split and the items' rows shared
        without locks (Hogwild, Niu et al. 2011), so that no two runs are alike to the bit.
        """
        visit = self.visits(records, np.float32(rate), negatives)
        users = np.flatnonzero(known_users(records).numpy())
        pairs = sum(each.nnz for each in records.sets)

        def epoch(seed: int) -> float:
            order = np.random.default_rng(seed).permutation(users)

            def part(low: int, high: int) -> tuple[float, int]:
                chance = np.random.SeedSequence((seed, low)).generate_state(1, np.uint64)[0]
                return visit(order[low:high], chance)

            threads = max(1, min(torch.get_num_threads(), pairs // LEAST))
            found = in_threads(part, even_cuts(len(order), threads))
            return sum(loss for loss, _ in found) / max(1, sum(steps for _, steps in found))

        return epoch

    def visits(self, records: Records, rate: np.float32, negatives: int) -> Visit:
        """What trains in place on users' pairs."""
        pairs = LevelPairs.from_records(records, self.levels or ONE_LEVEL)
        learned = self.learned()
        how = rate, np.float32(self.config.l2)
        return lambda users, chance: bpr_users(
            users, *pairs.drawn(), negatives, *learned, *how, chance
        )

    def learned(self) -> tuple[Any, Any, Any]:
        """p (M, E), q (N, E) and the biases as arrays over the same memory."""
        p, q, bias = (each.detach().numpy() for each in (self.user, self.item, self.bias))
        return p, q, bias

    def encode(self, histories: Histories) -> Tensor:
        """(B, E) user vectors; who has nothing to learn from, and a stranger, gets the mean one."""
        self.check_histories(histories)
        return user_rows(self.user, self.known, histories.users)

    def folding(self, negatives: tuple[int, ...]) -> Folding | None:
        count = negatives[-1]
        shrink = self.config.l2 * count
        return LogLossFolding(
            self.user,
            self.logits_of,
            n_items=self.shape.n_items,
            learns=[self.shape.n_behaviors - 1],
            lambdas=[1.0],
            negatives=[count],
            decay=lambda k, pairs: shrink * pairs,
            loss=self._user_loss,
        )

    def logits_of(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives (1, S) scores of these items for one user's vector (E,)."""
        q, bias = self.item[items], self.bias[items]
        return lambda p: (q @ p + bias)[None]

    def _user_loss(self, items: Any, target: Any, weight: Any) -> Value:
        """What gives a user's loss, each positive against the others of these items, and its slope.

        The others' weights, which sum to the negatives of all positives, are shared out to each.
        """
        q, bias = self.item.numpy()[items], self.bias.numpy()[items]
        mine = target[0] == 1
        each = weight[0, ~mine] / max(int(mine.sum()), 1)

        def value(p: Any) -> Any:
            x = q @ p + bias
            gap = x[~mine] - x[mine][:, None]
            pulls = each / (1 + np.exp(-gap))
            slope = pulls.sum(0) @ q[~mine] - pulls.sum(1) @ q[mine]
            return float((np.logaddexp(0, gap) * each).sum()), slope

        return value

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        q, bias = (each if items is None else each[items] for each in (self.item, self.bias))
        scores = state @ q.T + bias
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)

    def item_vectors(self) -> Tensor:
        return self.item

    def index_vectors(self) -> Tensor:
        return with_bias(self.item, self.bias.view(-1, len(self.item))[-1])


MODEL = BPR
