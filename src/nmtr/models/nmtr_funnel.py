"""NMTR with the observed funnel: what a user did below the target counts as it was seen.

Eq. 4 of the paper passes on an estimate of the behaviour below. Here the cascade goes over what is
known. With o_ui^r = 1 where the user's history has item i under behaviour r, and R the target,

    y_ui = g^0(x_ui) + sum_{r < R} o_ui^r g^r(x_ui),    g^r(x) = w^r.x + v^r.relu(W^r x + b^r)

a unit for each behaviour, which adds to those below what it means to be so far: how often this item
is bought from the cart, how often this user does. x_ui holds the scores of the members (models that
see whole histories: EASE and iALS, of the target or of all behaviours), once as they are and
once in logarithms (for g^0, which alone speaks where nothing was observed, of some members if one
wants), and the logarithms of 1 + the records of item and user, by behaviour: all, and
those that went no further.

The units are learned on target records that are held out from the training records, one of each
user, by the softmax over all items that are no target record, p = exp(y) / sum exp(y): exactly for
what stands high with a member or in the funnel, by a weighted sample of the rest. The hiding rule:
a held-out record's own lower records are hidden at a rate (`hide`), since on a nested log it would
else always be in the funnel, and what is outside would seem never bought. Then members and counts
are made again of all records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from nmtr.data.records import Histories, Records
from nmtr.data.weighted import check_weights, weights_of
from nmtr.models import ease, ials
from nmtr.models.base import Model, Shape
from nmtr.models.heldout import Cases, HeldOut, among, hold_out, hold_out_last
from nmtr.models.observed import LEAST, Unit, ages, counted, counts_of, log, logs, through
from nmtr.models.space import Choice, Range, Space, Weights

BLOCK = 512  # users scored at once by the members
STEPS = 200  # at least so many teach the units
FAR = 3.0  # standard deviations from the middle of training's users, past which nothing is learned
MEMBERS = ("ease", "ease-all", "ials", "ials-all")


@dataclass(frozen=True)
class Config:
    """The settings of NMTR with the observed funnel.

    members: of ease and ials (the target's records), ease-all and ials-all (all behaviours').
    outside: those of them that the first unit reads, for what is in no funnel; empty for all.
    ridge, ridge_all: EASE's, for the target and for all behaviours.
    weights: of the behaviours for EASE of all, the target's last; empty for 0.5 to the power of the
    levels below it.
    embedding, ridge_ials, alpha0, nu: iALS's.
    hidden: relus of each unit. hide: the share of held-out records whose lower ones are hidden.
    observed: without it the funnel is not looked at, but for the members.
    counts: without it the items' are not looked at, which tell where held-out records are missing.
    recency: units of observed behaviours also read how long ago they were (observed.ages), and the
    held-out records are each user's last, from what came before them; for logs with times.
    candidates: the best of each member that are met exactly, and as many that are drawn.
    users: how many teach the units, 0 for all. sweeps: over them, more where they are few (STEPS).
    """

    members: tuple[str, ...] = ("ease", "ease-all")
    outside: tuple[str, ...] = ()
    ridge: float = 200.0
    ridge_all: float = 1000.0
    weights: tuple[float, ...] = ()
    embedding: int = 256
    ridge_ials: float = 0.04
    alpha0: float = 0.05
    nu: float = 0.8
    hidden: int = 32
    hide: float = 0.5
    observed: bool = True
    counts: bool = True
    recency: bool = False
    candidates: int = 100
    users: int = 0
    sweeps: int = 12
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        unknown = [each for each in self.members if each not in MEMBERS]
        if unknown or not self.members or len(set(self.members)) < len(self.members):
            raise ValueError(f"members: expected some of {', '.join(MEMBERS)}, got {self.members}")
        if not set(self.outside) <= set(self.members):
            known, got = ", ".join(self.members), ", ".join(self.outside)
            raise ValueError(f"outside: expected some of the members {known}, got {got}")
        if not 0 <= self.hide <= 1:
            raise ValueError(f"hide: expected a share from 0 to 1, got {self.hide}")
        if min(self.hidden, self.candidates, self.sweeps) < 1 or self.users < 0:
            raise ValueError("hidden, candidates and sweeps must be positive, and users 0 or more")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: expected a number above 0, got {self.learning_rate}")
        check_weights(self.weights)

    def space(self) -> Space:
        return {
            "ridge_all": Range(5.0, 5000.0, log=True),
            "weights": Weights(0.01, 3.0, empty=0.5),
            "hide": Range(0.0, 1.0, least=0.0, most=1.0),
            "hidden": Choice((16, 32, 64)),
        }


class Funnel(Model):
    """Members' scores, counts and what was observed, through a unit per behaviour.

    Users are met by their histories alone. Every behaviour gets the target's score.
    """

    reads = True
    item_counts: Tensor
    middle: Tensor
    spread: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.config: Config = config
        self.timed = config.recency
        self.members = nn.ModuleList(self._member(each) for each in config.members)
        self.counted = 2 * shape.n_behaviors - 1
        self.inputs = 2 * (len(self.members) + self.counted)
        levels = shape.n_behaviors if config.observed else 1
        told = 2 if config.recency else 0  # of a pair's own past
        self.units = nn.ModuleList(
            Unit(self.inputs + (told if r else 0), config.hidden) for r in range(levels)
        )
        self.register_buffer("item_counts", torch.zeros(shape.n_items, self.counted))
        self.register_buffer("middle", torch.zeros(self.inputs))
        self.register_buffer("spread", torch.ones(self.inputs))
        self._begin(self._unit(0))

    def _begin(self, first: Unit) -> None:
        """Until the units have learned, its last member's order; what it may not read stays 0."""
        members = self.config.members
        reads = [each in (self.config.outside or members) for each in members]
        unread = torch.tensor(
            [n for n, each in enumerate(2 * reads) if not each], dtype=torch.int64
        )
        deaf = partial(torch.index_fill, dim=1, index=unread, value=0.0)  # to their gradients
        for each in (first.first.weight, first.straight.weight):
            each.data[:, unread] = 0.0
            each.register_hook(deaf)  # type: ignore[no-untyped-call]
        first.straight.weight.data[0, max(n for n, each in enumerate(reads) if each)] = 1.0

    def _member(self, name: str) -> Model:
        c, shape = self.config, self.shape
        if name == "ease":
            return ease.Ease(ease.Config(ridge=c.ridge), shape)
        count = shape.n_behaviors
        weights = c.weights or tuple(0.5 ** (count - 1 - r) for r in range(count))
        weights_of(shape.behaviors, weights)
        if name == "ease-all":
            return ease.Ease(ease.Config(ridge=c.ridge_all, weights=weights), shape)
        options = ials.Config(
            embedding=c.embedding, ridge=c.ridge_ials, alpha0=c.alpha0, nu=c.nu,
            weights=(*(0.3 * each for each in weights[:-1]), 1.0) if name == "ials-all" else (),
        )  # fmt: skip
        return ials.IALS(options, shape)

    def learn(self, records: Records) -> None:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        held = (hold_out_last if self.config.recency else hold_out)(records, self.config.hide, rng)
        if len(held.users):
            self._fit_members(held.left)
            self._fit_units(held, rng)
        self._fit_members(records)

    def _fit_members(self, records: Records) -> None:
        for each in self._each():
            each.learn(records)
        counts = [each.column_counts() for each in counted(records.sets)]
        self.item_counts = logs(counts)

    def _fit_units(self, held: HeldOut, rng: np.random.Generator) -> None:
        chosen = rng.permutation(len(held.users))[: self.config.users or None]
        cases = [
            self._cases(held.part(rows), rng)
            for rows in np.array_split(chosen, -(-len(chosen) // BLOCK))
        ]
        x = torch.cat([each.x for each in cases])
        self.middle, spread = x.mean(0), x.std(0)
        self.spread = torch.where(spread > LEAST, spread, torch.inf)  # else it tells nothing
        if not self.config.counts:
            self.spread[2 * len(self.members) :][: self.counted] = torch.inf
        for each in cases:
            each.x.sub_(self.middle).div_(self.spread)
            each.x[:, -self.counted :].clamp_(-FAR, FAR)
        sweeps = max(self.config.sweeps, -(-STEPS // len(cases)))
        steps = sweeps * len(cases)
        optimizer = torch.optim.Adam(self.units.parameters(), lr=self.config.learning_rate)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        for _ in range(sweeps):
            for at in rng.permutation(len(cases)):
                optimizer.zero_grad()
                loss = cases[at].loss(self.units)
                loss.backward()
                optimizer.step()
                decay.step()

    @torch.no_grad()
    def _cases(self, held: HeldOut, rng: np.random.Generator) -> Cases:
        """Held-out pairs of B users among what stands against them."""
        histories, size = held.histories(), len(held.users)
        scores = self._scores(histories)
        row, item, extra = among(held, histories, scores, self.config.candidates, rng)
        places = [
            torch.from_numpy(each.places(row.numpy(), item.numpy()))
            for each in histories.items[: len(self.units) - 1]
        ]
        observed = [(each >= 0).nonzero()[:, 0] for each in places]
        of_pairs = self._ages(histories)
        old = [a[p[at]] for a, p, at in zip(of_pairs, places, observed, strict=True)]
        x = self._inputs([each[row, item] for each in scores], row, item, counts_of(histories))
        return Cases(x, row, extra, observed, old, size)

    def _scores(self, histories: Histories) -> list[Tensor]:
        """(B, N) of each member."""
        return [each.score(each.encode(histories), histories) for each in self._each()]

    def _each(self) -> Iterator[Model]:
        for each in self.members:
            assert isinstance(each, Model)
            yield each

    def _inputs(self, scores: Sequence[Tensor], row: Tensor, item: Tensor, users: Tensor) -> Tensor:
        """(n, inputs) x of pairs, from their scores by each member (n,)."""
        columns = torch.stack([*scores, *map(log, scores)], 1)
        return torch.cat([columns, self.item_counts[item], users[row]], 1)

    def encode(self, histories: Histories) -> Tensor:
        """(B, N) the user's scores."""
        self.check_histories(histories)
        scores = self._scores(histories)
        items, users = self.item_counts, self._users(histories)
        found = self._through(0, scores, items.T[:, None], users.T[:, :, None])
        past = self._ages(histories)
        for r, each in enumerate(histories.items[: len(self.units) - 1]):
            row = torch.from_numpy(each.row_of_each()).to(found.device)
            item = torch.from_numpy(each.indices.astype(np.int64)).to(found.device)
            met = [of_member[row, item] for of_member in scores]
            old = past[r].to(found.device)
            found[row, item] += self._through(r + 1, met, items[item].T, users[row].T, old)
        return found

    def _ages(self, histories: Histories) -> list[Tensor]:
        """Of each observed behaviour (pairs, 2), or (pairs, 0) where times are not looked at."""
        if self.config.recency:
            return ages(histories)[: len(self.units) - 1]
        return [torch.zeros(each.nnz, 0) for each in histories.items[: len(self.units) - 1]]

    def _users(self, histories: Histories) -> Tensor:
        """(B, 2R - 1) their counts, as far as those of training went."""
        counts = counts_of(histories).to(self.item_counts.device)
        middle, far = self.middle[-self.counted :], FAR * self.spread[-self.counted :]
        return counts.clamp(middle - far, middle + far)

    def _through(
        self, r: int, scores: Sequence[Tensor], items: Tensor, users: Tensor,
        ages: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        middle, spread = self.middle, self.spread
        return through(self._unit(r), scores, items, users, middle=middle, spread=spread, ages=ages)

    def _unit(self, r: int) -> Unit:
        unit = self.units[r]
        assert isinstance(unit, Unit)
        return unit

    def score_behaviors(
        self, state: Tensor, histories: Histories, items: Tensor | None = None
    ) -> Tensor:
        scores = state if items is None else state[:, items]
        return scores[:, None].expand(-1, self.shape.n_behaviors, -1)


MODEL = Funnel
