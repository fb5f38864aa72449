"""The paper's numbers, from paper.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

CUTOFFS = (50, 80, 100, 200)  # Table II's
SUBSETS = ("upper", "lower", "half of upper", "half of lower")  # Table III's: carts, then views


@cache
def paper() -> dict[str, Any]:
    """All of paper.toml."""
    return tomllib.loads((Path(__file__).parent / "paper.toml").read_text(encoding="utf-8"))


def table2(row: str, metric: str) -> float | None:
    """Table II's number for a model and `hr@K` or `ndcg@K`; None where it has none."""
    kind, _, k = metric.partition("@")
    values = paper()["table2"].get(row)
    if values is None or kind not in ("hr", "ndcg") or int(k) not in CUTOFFS:
        return None
    return float(values[2 * CUTOFFS.index(int(k)) + (kind == "ndcg")])


def table3(row: str, subset: str, metric: str) -> float | None:
    """Table III's number for a model, one of SUBSETS, and hr@100 or ndcg@100."""
    values = paper()["table3"].get(row)
    if values is None or subset not in SUBSETS:
        return None
    return float(values[2 * SUBSETS.index(subset) + (metric == "ndcg@100")])


def is_papers(n_users: int, n_items: int) -> bool:
    """Whether data of so many users and items are the paper's, as far as Table I tells."""
    known = paper()["table1"]
    return (n_users, n_items) == (known["users"], known["items"])
