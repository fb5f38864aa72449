"""A proposal for the order of the behaviours, where the user names none: rarer means higher."""

from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from nmtr.data.reading.columns import BEHAVIOR, ITEM, USER
from nmtr.errors import DataError

CLOSE = 2.0  # volumes nearer than this factor do not tell which behaviour is higher
NESTED = 0.5  # share of the rarer behaviour's pairs in the commoner one that does
LEAST = 1.1  # nesting tells only where volumes differ: equal sets are nested both ways
FEW = 30  # events of a behaviour below which no figure tells
_UNDOING = (
    r"^(remove|delete|undo|un(like|fav|follow|save|wish)|return|refund|cancel|dis(like|card))"
)
_UNDOING_PART = r"[_\-. ](remove|delete|undo|unlike|return|refund|cancel)"


@dataclass(frozen=True)
class Proposal:
    """behaviors: commonest first, the proposed target last. sure: nothing speaks against it.

    why: sentences with the figures behind it.
    """

    behaviors: tuple[str, ...]
    sure: bool
    why: list[str]


def propose_order(frame: pl.DataFrame) -> Proposal:
    """Order the behaviours of an EventLog's frame by volume, and check it against nesting.

    Undo events are ignored. Unsure where there is one behaviour only, where two neighbours have
    volumes within a factor of 2 and less than half of the rarer one's pairs are nested in the
    commoner one, where one has fewer than 30 events, or where a name says that it undoes another.
    Raises DataError without events.
    """
    events = frame.filter(~pl.col("undo")) if "undo" in frame.columns else frame
    volumes = _volumes(events)
    if not volumes:
        raise DataError("expected events to order the behaviours by, got none that is no undo")
    order = tuple(volumes)
    why = [f"{_listed(volumes)} events: the rarer a behaviour, the higher it stands"]
    sure = True
    for lower, higher in pairwise(order):
        sentence, clear = _compare(events, lower, higher, volumes=volumes)
        why.append(sentence)
        sure = sure and clear
    if len(order) == 1:
        sure = False
        why.append(f"{order[0]!r} is the only behaviour: there is nothing to learn it from")
    undoing = _undoing(order)
    if undoing:
        sure = False
        why.append(
            f"by their names {undoing} may undo another behaviour; "
            "if so, say which with --undo BEHAVIOUR=VALUE"
        )
    return Proposal(order, sure, why)


def nesting(events: pl.DataFrame, lower: str, higher: str) -> float:
    """Share of the (user, item) pairs under `higher` that also have a record under `lower`."""
    pair = [USER, ITEM]
    rare = events.filter(pl.col(BEHAVIOR) == higher).select(pair).unique()
    if not rare.height:
        return 0.0
    common = events.filter(pl.col(BEHAVIOR) == lower).select(pair)
    # The rare side is the one that is hashed: it is much the smaller.
    return common.join(rare, on=pair, how="semi").unique().height / rare.height


def _volumes(events: pl.DataFrame) -> dict[str, int]:
    counts = events.group_by(BEHAVIOR).len().sort("len", BEHAVIOR, descending=[True, False])
    return dict(counts.rows())


def _compare(
    events: pl.DataFrame, lower: str, higher: str, *, volumes: dict[str, int]
) -> tuple[str, bool]:
    """What volumes and nesting say about two neighbours, and whether that is clear."""
    ratio = volumes[lower] / volumes[higher]
    share = nesting(events, lower, higher)
    sentence = (
        f"{lower!r} has {ratio:.1f} times the events of {higher!r}; "
        f"{share:.0%} of the pairs of {higher!r} are also in {lower!r}"
    )
    if volumes[higher] < FEW:
        return f"{sentence}: too few events to tell", False
    if ratio >= CLOSE or (share >= NESTED and ratio >= LEAST):
        return sentence, True
    return f"{sentence}: too alike in volume and too little nested to tell which is higher", False


def _listed(volumes: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name!r}" for name, count in volumes.items())


def _undoing(names: tuple[str, ...]) -> list[str]:
    column = pl.Series(names, dtype=pl.String)
    lowered = column.str.to_lowercase()
    return column.filter(
        lowered.str.contains(_UNDOING) | lowered.str.contains(_UNDOING_PART)
    ).to_list()
