"""The figures of an audit: what was counted, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Slices of the held-out pairs (PROTOCOLS): all, in-funnel, new; and, where there are several
# auxiliary behaviours, "in NAME" for each of them. A slice without pairs is left out.
PerSlice = Mapping[str, float]


@dataclass(frozen=True)
class Skipped:
    """A figure that these data do not give."""

    skipped: str


@dataclass(frozen=True)
class Volume:
    """One behaviour: events without undo events, undo events, and the pairs that stand.

    density: pairs of all users x items. repeated: share of events that added no standing pair.
    """

    name: str
    events: int
    undo_events: int
    pairs: int
    density: float
    repeated: float


@dataclass(frozen=True)
class HeldOutFigures:
    """The held-out pairs and what else is recorded of them.

    slices: pairs per slice. held_out_in, trained_in: auxiliary behaviour -> share of the held-out
    pairs, of the training target pairs, that are recorded under it. in_target: pairs of a hold-out
    file that the log holds as target records too. cold_items, cold_users: share of the held-out
    pairs whose item, whose user, has no training record.
    """

    rule: str
    users: int
    pairs: int
    slices: Mapping[str, int]
    held_out_in: Mapping[str, float]
    trained_in: Mapping[str, float]
    in_target: int
    cold_items: float
    cold_users: float


@dataclass(frozen=True)
class IdOrder:
    """How often a held-out item's id lies above, or below, every training target id of its user.

    Each user counts once. users: those that can be compared, per slice. chance: the mean of
    1 / (1 + target items), which holds for either side where ids say nothing.
    """

    users: Mapping[str, int]
    above: PerSlice
    below: PerSlice
    chance: PerSlice


@dataclass(frozen=True)
class Marginal:
    """Whether item totals alone tell which items were held out.

    The held-out pairs leave every behaviour; all items not seen are ranked, ties against. Share of
    a user's pairs in the first `cutoff` (HR where there is one), mean of users: ranked by (records
    under `below` - target records), and by target records (popularity). error: standard error of
    the difference.
    """

    below: str
    cutoff: int
    by_totals: PerSlice
    by_popularity: PerSlice
    error: PerSlice


@dataclass(frozen=True)
class Shift:
    """Concentration of the held-out pairs, and of training pairs drawn as many per user.

    top: a number of items. held_out: share of the held-out pairs on the `top` items held out most;
    train_same: share of the training target pairs on those same items; train_top: on the `top`
    items trained most. drawn, drawn_train_same: the first two for pairs drawn at random from the
    same users' training targets, as a validation set would be.
    """

    top: int
    held_out: float
    train_same: float
    train_top: float
    drawn: float
    drawn_train_same: float


@dataclass(frozen=True)
class UserGroup:
    """Users with `low` to `high` training target records."""

    low: int
    high: int
    users: int


@dataclass(frozen=True)
class Times:
    """When things happened, in UTC, and what looks wrong about it.

    instants: distinct times; busiest: share of events at the commonest one. midnight: share of
    events at 00:00:00. tied: share of events with another of the same user at the same instant.
    before_training: share of the held-out pairs dated before a training target of their user,
    None where the hold-out is by time or its pairs have no times.
    """

    first: str
    last: str
    before_1990: int
    future: int
    instants: int
    busiest: float
    busiest_at: str
    midnight: float
    tied: float
    before_training: float | None


@dataclass(frozen=True)
class Audit:
    """What a prepared data set is, what its hold-out gives away, and how to evaluate on it.

    nesting: behaviour -> lower behaviour -> share of the former's pairs also recorded there.
    read: what reading the log dropped and noted. verdicts: sentences, the most important first.
    """

    users: int
    items: int
    volumes: tuple[Volume, ...]
    nesting: Mapping[str, Mapping[str, float]]
    held_out: HeldOutFigures | Skipped
    id_order: IdOrder | Skipped
    marginal: Marginal | Skipped
    shift: Shift | Skipped
    groups: tuple[UserGroup, ...]
    times: Times | Skipped
    read: Mapping[str, Any]
    verdicts: tuple[str, ...] = ()
    protocol: str = ""
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
