"""What clients get, for the OpenAPI description; the answers are made as plain JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answered(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProblemOut(BaseModel):
    """RFC 9457: what was expected, what came, what to do."""

    title: str
    status: int
    detail: str


class ItemOut(Answered):
    """propensity: the chance that this item stood at this place, exploration included.

    behaviors: the probability of a record of each behaviour where the answer is calibrated, else
    scores; empty where the basis is `popular`.
    """

    item: str
    position: int
    score: float
    propensity: float
    behaviors: dict[str, float]
    attributes: dict[str, Any] = {}


class RecommendationsOut(Answered):
    """basis: the `model` as trained, its `fold-in` of new events, or what is `popular`."""

    recommendation_id: str = Field(description="cite it in the events that follow from this answer")
    arm: str
    model: str
    basis: Literal["model", "fold-in", "popular"]
    calibrated: bool
    explored: bool
    unknown_events: int = Field(description="events left out, as the model does not know the items")
    items: list[ItemOut]


class ReceiptOut(Answered):
    """Given when the events are on the disk."""

    accepted: int
    duplicates: int = Field(description="were there already, with the same content")
    conflicts: list[str] = Field(description="ids that were there with other content, which stays")
    erased: int = Field(description="of persons who were erased; not stored")


class IdentityOut(Answered):
    status: Literal["merged", "unchanged"]


class ErasureOut(Answered):
    """A receipt. hash: by which the person is known from now on; times in ms since 1970 UTC."""

    hash: str
    at: int
    deadline: int = Field(description="by when bundles and exports made before must be retired")
    events: int
    exposures: int
    visitors: int
    refused: int
    compacted: bool = Field(description="the bytes are gone from the store's files too")


class StockOut(Answered):
    version: int
    listed: int | None = Field(description="items on the list; null where there is no list")
    known: dict[str, int] = Field(description="how many of them each arm's model knows")


class HealthOut(Answered):
    status: Literal["ok"]


class ReadyOut(Answered):
    status: Literal["ready"]
    arms: dict[str, str] = Field(description="fingerprints of the bundles that are served")


class UserOut(Answered):
    """What a user did, items by behaviour; known: whether the model or the store has anything."""

    user: str
    arm: str
    known: bool
    behaviors: dict[str, list[str]]


class AlikeOut(Answered):
    item: str
    likeness: float
    attributes: dict[str, Any]


class SimilarOut(Answered):
    """by: the model's own `likeness`, or its scores for a `stranger` who met that item alone."""

    item: str
    arm: str
    by: Literal["likeness", "stranger"]
    attributes: dict[str, Any]
    items: list[AlikeOut]


class ReasonOut(Answered):
    """An item of the history, and how far the score falls without it."""

    item: str
    behaviors: list[str]
    drop: float
    attributes: dict[str, Any]


class ExplanationOut(Answered):
    """score: of the target behaviour; behaviors: as in a recommendation, up the cascade."""

    item: str
    arm: str
    model: str
    basis: Literal["model", "fold-in", "popular"]
    score: float
    calibrated: bool
    behaviors: dict[str, float]
    attributes: dict[str, Any]
    reasons: list[ReasonOut]


class ArmOut(Answered):
    name: str
    share: float
    fingerprint: str
    model: str
    created: str
    behaviors: list[str]
    users: int
    items: int
    protocol: str
    epochs: int | None
    calibrated: bool
    catalogue: list[str] = Field(description="columns that rules may use")
    reports: dict[str, Any] = Field(description="metrics on the test fold, by protocol and slice")
    audit: Any


class ModelOut(Answered):
    experiment: str
    exploration: float
    arms: list[ArmOut]


class ReloadOut(Answered):
    changed: bool
    arms: dict[str, str]


class EstimateOut(Answered):
    """low, high: hold at all times at once; null while there are too few persons."""

    value: float | None
    low: float | None
    high: float | None


class DifferenceOut(EstimateOut):
    """From the first arm; relative: as a share of it; p_value: of no difference, at any time."""

    p_value: float | None
    relative: float | None


class ConversionOut(EstimateOut):
    persons: int
    did: int
    difference: DifferenceOut | None


class PerListOut(EstimateOut):
    cited: int = Field(description="events of the behaviour that name the list they came from")
    difference: DifferenceOut | None


class ExplorationOut(Answered):
    """What the best lists alone would get per list, by those that were drawn at random."""

    explored: int
    best_by_ips: EstimateOut
    best_by_snips: EstimateOut


class ComparedOut(Answered):
    """persons: who met the arm first; in_window: of those, whose window is not over."""

    name: str
    share: float
    persons: int
    in_window: int
    lists: int
    conversion: ConversionOut
    per_list: PerListOut
    exploration: ExplorationOut


class DealingOut(Answered):
    """Whether as many persons met each arm as its share says: if not, trust no figure."""

    p_value: float
    mismatch: bool
    shares: dict[str, float]
    persons: dict[str, int]


class ReportOut(Answered):
    """crossed: persons who met several arms, and count for the first."""

    experiment: str
    behavior: str
    since: int
    window_hours: float
    alpha: float
    tau: float
    exploration: float
    persons: int
    crossed: int
    lists_for_nobody: int
    dealing: DealingOut
    arms: list[ComparedOut]
