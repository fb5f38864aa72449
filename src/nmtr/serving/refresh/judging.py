"""Bundles side by side, as they would have served those who came true in a stretch of time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nmtr.data.interactions import Interactions
from nmtr.data.records import CSR
from nmtr.data.split import Evaluation
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.significance import Difference, difference
from nmtr.serving.bundle import Bundle
from nmtr.serving.histories import Current
from nmtr.serving.refresh.options import Options
from nmtr.serving.rules import Rules
from nmtr.serving.service import Ask, Service

BLOCK = 512  # users ranked at once
FILE = "candidate.nmtr"  # what is judged, in a home's night/
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is to be promoted, in words, and the figures behind it.

    means: of the metric, by bundle; against: the candidate less each other, as in
    evaluation.significance.Difference. file: what is to be promoted.
    """

    promote: bool
    why: str
    users: int
    metric: str
    means: dict[str, float]
    against: dict[str, dict[str, Any]]
    file: str = FILE


def values_of(bundle: Bundle, data: Interactions, evaluation: Evaluation, metric: str) -> Values:
    """(U,) the metric of each user of an evaluation of `data`, by the bundle as it would serve.

    A user whom the bundle does not know, or who did more than it was trained on, is folded in;
    items that it does not know cannot be found. What it holds of later events is not used.
    """
    service, k = _service(bundle), int(metric.partition("@")[2])
    items = bundle.data.items.indices(data.items.ids)
    users = bundle.data.users.indices(data.users.ids)[evaluation.users]
    rows = tuple(_renamed(each, items, service.data.n_items) for each in evaluation.histories.items)
    truth, true_items = evaluation.truth, items[evaluation.truth.indices]
    ranks = np.full(truth.nnz, k + 1, np.int64)
    for start in range(0, len(users), BLOCK):
        block = range(start, min(start + BLOCK, len(users)))
        asks = [
            Ask(_current(service, int(users[u]), [x.between(u, u + 1) for x in rows]), k, "all",
                Rules(fallback=False), 0)
            for u in block
        ]  # fmt: skip
        found = service.rank(asks).items
        low, high = truth.indptr[block[0]], truth.indptr[block[-1] + 1]
        of = np.repeat(np.arange(len(block)), np.diff(truth.indptr[start : block[-1] + 2]))
        same = found[of] == true_items[low:high, None]
        same &= true_items[low:high, None] >= 0
        ranks[low:high] = np.where(same.any(1), same.argmax(1) + 1, k + 1)
    return per_user(ranks, truth.indptr, (k,))[metric]


def judge(candidate: Values, others: dict[str, Values], options: Options) -> Verdict:
    """Promote only if a loss of the margin, relative, is ruled out against every other.

    The intervals are 95 % bootstraps over users, paired.
    """
    n = len(candidate)
    means = {"candidate": float(candidate.mean())} if n else {}
    means |= {name: float(each.mean()) for name, each in others.items() if n}

    def verdict(promote: bool, why: str, against: dict[str, Any]) -> Verdict:
        return Verdict(promote, why, n, options.metric, means, against)

    if n < options.least_users:
        return verdict(
            False,
            f"{n:,} users bought in the window, {options.least_users:,} are needed; widen it with "
            "--window DAYS",
            {},
        )
    gaps = {name: difference(candidate, each) for name, each in others.items()}
    words = [_sentence(name, each, options) for name, each in gaps.items()]
    # A NaN, where the other's mean may be 0, rules nothing out.
    good = [each.relative_low > -options.margin for each in gaps.values()]
    against = {name: _plain(asdict(each)) for name, each in gaps.items()}
    return verdict(all(good), "; ".join(words), against)


def _sentence(name: str, gap: Difference, options: Options) -> str:
    if not np.isfinite(gap.relative_low):
        return f"the {name} found next to nothing, so no relative difference can be told"
    interval = f"{gap.relative:+.1%} ({gap.relative_low:+.1%} to {gap.relative_high:+.1%})"
    ruled = "is ruled out" if gap.relative_low > -options.margin else "is not ruled out"
    return (
        f"{options.metric} against the {name} {interval}, {gap.users:,} users: a loss of "
        f"{options.margin:.1%} {ruled}"
    )


def _service(bundle: Bundle) -> Service:
    """A bundle's service that knows no more than its training did."""
    known = bundle.trained_records()
    data = replace(bundle.data, sets=known.sets) if known else bundle.data
    return Service(
        bundle.model, data, trained_users=bundle.trained_users() if bundle.model.trained else None,
        lookups=bundle.lookups(), negatives=bundle.settings.training.negatives,
    )  # fmt: skip


def _current(service: Service, index: int, rows: list[CSR]) -> Current:
    items, before = [each.indices for each in rows], service.ledger.before(index)
    times = [each.at for each in rows if each.at is not None]
    changed = any(not np.array_equal(one, other) for one, other in zip(items, before, strict=True))
    kept = tuple(times) if service.ledger.timed else None
    return Current(index, tuple(items), changed, 0, {}, kept)


def _renamed(rows: CSR, items: npt.NDArray[np.int64], n_items: int) -> CSR:
    """Rows of items as another vocabulary numbers them; what it lacks is left out."""
    found = items[rows.indices]
    known = found >= 0
    row, item = rows.row_of_each()[known], found[known]
    named = CSR.from_pairs(row, item, rows.n_rows, n_items)
    if rows.at is None:
        return named
    at = np.empty(named.nnz, np.int64)
    at[named.places(row, item)] = rows.at[known]
    return replace(named, at=at)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
    }
