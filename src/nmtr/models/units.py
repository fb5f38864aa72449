"""Interaction units f(p, q): GMF, MLP and NeuMF (He et al., Neural Collaborative Filtering, 2017).

Each scores pairs and blocks with the same parameters. Pairs are two tables, p (U, E) and q (N, E),
and which rows of them meet, u and i (B,), so that what depends on one side only is computed once a
row; a block is all of U x N, and never builds the U x N x E product where algebra avoids it.
`of_items` does what depends on items (S, E) once, for many vectors p (E,) of one user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nmtr.models.space import Cases, Entry, Range, Space

MLP_OPTIONS = ("layers", "activation", "mlp_l2", "mlp_init", "mlp_rate")  # what GMF has no use for
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
OfItems = Callable[[Tensor], Tensor]  # (E,) to (S,)
BLOCK_ROWS = 32_768  # rows of a block's hidden layer held at once: 8 MB at width 64


class GMF(nn.Module):
    """h . (p * q)."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.h = nn.Parameter(torch.ones(embedding))

    def forward(self, p: Tensor, q: Tensor, u: Tensor, i: Tensor) -> Tensor:
        out: Tensor = (F.embedding(u, p) * F.embedding(i, q)) @ self.h
        return out

    def block(self, p: Tensor, q: Tensor) -> Tensor:
        return (p * self.h) @ q.T

    def of_items(self, q: Tensor) -> OfItems:
        across = q.T.contiguous()
        return lambda p: (p * self.h) @ across


class Tower(nn.Module):
    """Hidden layers over the concatenation [p, q]: the MLP unit without its last weights.

    The first layer is applied to p and q apart, W [p, q] = W_p p + W_q q, so that a block pays for
    U + N rows of it instead of U * N, and pairs for the rows that they share once.
    """

    def __init__(
        self, embedding: int, layers: tuple[int, ...], activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.first_p = nn.Linear(embedding, layers[0])
        self.first_q = nn.Linear(embedding, layers[0], bias=False)
        self.activate = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        rest = [nn.Linear(a, b) for a, b in pairwise(layers)]
        self.rest = nn.ModuleList(rest)
        bound = (6 / (2 * embedding + layers[0])) ** 0.5  # Glorot over the concatenated input
        for each in (self.first_p, self.first_q):
            nn.init.uniform_(each.weight, -bound, bound)
        nn.init.zeros_(self.first_p.bias)
        for layer in rest:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, p: Tensor, q: Tensor, u: Tensor, i: Tensor) -> Tensor:
        return self.upper(F.embedding(u, self.first_p(p)) + F.embedding(i, self.first_q(q)))

    def upper(self, first: Tensor) -> Tensor:
        """(B, H) first layer before activation -> (B, last width)."""
        hidden: Tensor = self.dropout(self.activate(first))
        for layer in self.rest:
            hidden = self.dropout(self.activate(layer(hidden)))
        return hidden

    def block(self, p: Tensor, q: Tensor, h: Tensor) -> Tensor:
        """(U, N) h . tower(p, q) of every pair."""
        ours, theirs = self.first_p(p), self.first_q(q)
        out = torch.empty(len(p), len(q), dtype=p.dtype, device=p.device)
        step = max(1, BLOCK_ROWS // max(len(q), 1))
        for start in range(0, len(p), step):
            first = ours[start : start + step, None] + theirs
            out[start : start + step] = (self.upper(first.flatten(0, 1)) @ h).view(first.shape[:2])
        return out


class MLP(nn.Module):
    """h . tower([p, q])."""

    def __init__(
        self, embedding: int, layers: tuple[int, ...], activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.tower = Tower(embedding, layers, activation, dropout)
        self.h = nn.Parameter(torch.empty(layers[-1]).uniform_(-1, 1) * layers[-1] ** -0.5)

    def forward(self, p: Tensor, q: Tensor, u: Tensor, i: Tensor) -> Tensor:
        out: Tensor = self.tower(p, q, u, i) @ self.h
        return out

    def block(self, p: Tensor, q: Tensor) -> Tensor:
        return self.tower.block(p, q, self.h)

    def of_items(self, q: Tensor) -> OfItems:
        theirs = self.tower.first_q(q)

        def scores(p: Tensor) -> Tensor:
            out: Tensor = self.tower.upper(self.tower.first_p(p) + theirs) @ self.h
            return out

        return scores

    @torch.no_grad()
    def start_as_agreement(self) -> None:
        """Set one hidden layer of 4 E relus to the sum over e of sign(p_e q_e) min(|p_e|, |q_e|).

        That is (|p_e + q_e| - |p_e - q_e|) / 2, each absolute value from two relus. A random layer
        of this width finds such an agreement slowly (Rendle et al. 2020 on products).
        """
        one = torch.eye(self.tower.first_p.in_features)
        self.tower.first_p.weight.copy_(torch.cat([one, -one, one, -one]))
        self.tower.first_q.weight.copy_(torch.cat([one, -one, -one, one]))
        self.h.copy_(torch.tensor([0.5, 0.5, -0.5, -0.5]).repeat_interleave(len(one)))


def mlp_space(embedding: int, activation: str) -> Space:
    """What may be told to a model that has MLPs: how they start, and how they learn."""
    found: dict[str, Entry] = {
        "mlp_l2": Range(1e-5, 0.01, log=True, least=1e-7),
        "mlp_rate": Range(0.01, 1.0, log=True),
    }
    if activation == "relu":
        agreement = {"layers": (4 * embedding,), "mlp_init": "agreement", "init_std": 0.05}
        random = {"layers": (64, 32, 16), "mlp_init": "glorot", "init_std": 0.01}
        found["tower"] = Cases({"random": random, "agreement": agreement})
    return found


class NeuMF(nn.Module):
    """h . [p * q, tower([p, q])]: the two towers joined by a last layer, over shared embeddings."""

    def __init__(
        self, embedding: int, layers: tuple[int, ...], activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.gmf = GMF(embedding)
        self.mlp = MLP(embedding, layers, activation, dropout)

    def forward(self, p: Tensor, q: Tensor, u: Tensor, i: Tensor) -> Tensor:
        out: Tensor = self.gmf(p, q, u, i) + self.mlp(p, q, u, i)
        return out

    def block(self, p: Tensor, q: Tensor) -> Tensor:
        return self.gmf.block(p, q) + self.mlp.block(p, q)

    def of_items(self, q: Tensor) -> OfItems:
        gmf, mlp = self.gmf.of_items(q), self.mlp.of_items(q)
        return lambda p: gmf(p) + mlp(p)


Unit = GMF | MLP | NeuMF


def mlps(units: Iterable[nn.Module]) -> list[MLP]:
    """The MLPs of R units: R of them, or none for GMF."""
    return [part for unit in units for part in unit.modules() if isinstance(part, MLP)]


def gmf_weights(units: Iterable[nn.Module], p: Tensor) -> Tensor:
    """(R, E) the h of each GMF, or (R, 0) where there are none."""
    parts = [part for unit in units for part in unit.modules()]
    found: list[Tensor] = [part.h for part in parts if isinstance(part, GMF)]
    return torch.stack(found) if found else p.new_zeros(len(list(units)), 0)


def upper_weights(found: list[MLP], p: Tensor) -> Tensor:
    """(R, S) each MLP above its first layer: per layer its weights (in, out) and bias, then h."""
    if not found:
        return p.new_zeros(0, 0)
    return torch.stack([torch.cat(_flat(each)) for each in found])


def _flat(mlp: MLP) -> list[Tensor]:
    found: list[Tensor] = []
    for layer in mlp.tower.rest:
        assert isinstance(layer, nn.Linear)
        found += [layer.weight.T.flatten(), layer.bias]
    return [*found, mlp.h]


def make_unit(
    name: str, embedding: int, layers: tuple[int, ...], activation: str, dropout: float
) -> Unit:
    """A unit by its name; raises ValueError for an unknown one."""
    if name == "gmf":
        return GMF(embedding)
    if name == "mlp":
        return MLP(embedding, layers, activation, dropout)
    if name == "neumf":
        return NeuMF(embedding, layers, activation, dropout)
    raise ValueError(f"unit '{name}' is none of gmf, mlp, neumf")
