"""What clients send, as strict schemas: unknown names, wrong types and endless lists are refused.

Ids are text of 1 to 256 characters; a numeric id is its decimal text. Times are milliseconds since
1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    RootModel,
    Tag,
)

from nmtr.errors import DataError
from nmtr.serving.http.live import Person
from nmtr.serving.http.problems import TAGS, Problem
from nmtr.serving.requests import Event, Slice
from nmtr.serving.rules import Rules
from nmtr.serving.store.records import check_text

MOST_ITEMS = 1000  # of one answer
MOST_EVENTS = 1000  # of one call
MOST_STOCK = 1_000_000
LAST_TIME = 253_402_300_799_999  # the end of the year 9999
SECONDS = range(10**8, 10**11)  # of 1973 to 5138; as milliseconds all of them lie before 1974


def _storable(value: str) -> str:
    try:
        check_text("", value)
    except DataError as error:
        raise ValueError(str(error).removeprefix(": ")) from None
    return value


def _milliseconds(value: int) -> int:
    if value in SECONDS:
        raise ValueError(f"expected milliseconds, got {value}, which reads like seconds")
    return value


Id = Annotated[
    str,
    Field(min_length=1, max_length=256, json_schema_extra={"pattern": "^[^\\x00]*$"}),
    AfterValidator(_storable),
]
Time = Annotated[
    int,
    Field(ge=0, le=LAST_TIME, description="milliseconds since 1970 UTC; seconds are refused"),
    AfterValidator(_milliseconds),
]
Short = Annotated[str, Field(min_length=1, max_length=256)]
Plain = Annotated[str, Field(max_length=256)] | bool | int | float


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ConditionIn(Asked):
    """Any of the values `in`, or a number between `from` and `to`, both included."""

    column: Short
    in_: list[Plain] | None = Field(None, alias="in", min_length=1, max_length=1000)
    from_: float | None = Field(None, alias="from")
    to: float | None = None


class RulesIn(Asked):
    """What a recommendation must keep to; docs/serving.md says what each rule means."""

    exclude: Literal["bought", "seen", "nothing"] | None = None
    exclude_items: Annotated[list[Id], Field(max_length=1000)] = []
    repurchase_days: Annotated[
        dict[Short, Annotated[float, Field(ge=0, le=36_500)]], Field(max_length=1000)
    ] = {}
    allow: Annotated[list[ConditionIn], Field(max_length=20)] = []
    deny: Annotated[list[ConditionIn], Field(max_length=20)] = []
    in_stock: bool = True
    diversity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    diversify_by: Short = "category"
    popularity_penalty: Annotated[float, Field(ge=0, le=1000)] = 0.0
    fallback: bool = True
    category: Short = "category"

    def rules(self) -> Rules:
        return Rules.from_json(self.model_dump(by_alias=True, exclude_unset=True))


class VisitedIn(Asked):
    """One event of an anonymous visitor, or one that the store does not have yet."""

    item: Id
    behavior: Short
    timestamp: Time | None = None

    def event(self, undo: Mapping[str, str]) -> Event:
        kind = undo.get(self.behavior, self.behavior)
        return Event(self.item, kind, self.timestamp, self.behavior in undo)


class WhoIn(Asked):
    user: Id | None = None
    visitor: Id | None = None

    def person(self) -> Person | None:
        """Who is meant; raises the problem of two."""
        if self.user is not None and self.visitor is not None:
            raise Problem(422, "expected a user or a visitor, got both; merge them first")
        if self.user is not None:
            return Person("user", self.user)
        return None if self.visitor is None else Person("visitor", self.visitor)


class RecommendIn(WhoIn):
    """For whom, and what. Without a user or visitor: somebody who is not known."""

    events: Annotated[list[VisitedIn], Field(max_length=MOST_EVENTS)] = []
    k: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 20
    slice: Slice = "all"
    rules: RulesIn | None = None
    attributes: Annotated[bool, Field(description="names, prices, pictures of the items too")] = (
        False
    )


class RecommendQuery(WhoIn):
    """The same in a query; rules as JSON text."""

    model_config = ConfigDict(strict=False)

    k: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 20
    slice: Slice = "all"
    rules: Json[RulesIn] | None = None
    attributes: bool = False


class ExplainQuery(WhoIn):
    """Whose score of which item; most: reasons at the most."""

    model_config = ConfigDict(strict=False)

    item: Id
    most: Annotated[int, Field(ge=1, le=100)] = 10


class ExplainIn(WhoIn):
    """The same, of somebody who did these events too."""

    item: Id
    events: Annotated[list[VisitedIn], Field(max_length=MOST_EVENTS)] = []
    most: Annotated[int, Field(ge=1, le=100)] = 10


class SimilarQuery(Asked):
    model_config = ConfigDict(strict=False)

    k: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 10
    rules: Json[RulesIn] | None = None


class EventIn(WhoIn):
    """One thing that a user, or a visitor who has not logged in, did to an item.

    event_id: yours; what is sent again with the same id counts once. timestamp: when it happened,
    by default when it is received. recommendation_id: of the answer that led to it.
    """

    item: Id
    behavior: Short
    timestamp: Time | None = None
    event_id: Id | None = None
    recommendation_id: Id | None = None


class EventsIn(Asked):
    events: Annotated[list[EventIn], Field(min_length=1, max_length=MOST_EVENTS)]


def _tag(found: object) -> str:
    return TAGS[isinstance(found, Mapping) and "events" in found]


class OneOrMany(
    RootModel[
        Annotated[
            Annotated[EventIn, Tag(TAGS[0])] | Annotated[EventsIn, Tag(TAGS[1])],
            Discriminator(_tag),
        ]
    ]
):
    """An event, or a list of them."""


class IdentityIn(Asked):
    """A visitor who turned out to be a user."""

    visitor: Id
    user: Id


class StockIn(Asked):
    """The items in stock; null for no list: then everything is."""

    items: Annotated[list[Id], Field(max_length=MOST_STOCK)] | None


class StockChangeIn(Asked):
    """Items that came into stock, and items that ran out."""

    add: Annotated[list[Id], Field(max_length=MOST_STOCK)] = []
    remove: Annotated[list[Id], Field(max_length=MOST_STOCK)] = []


class ReportQuery(Asked):
    """Which exposures count, and which outcome."""

    model_config = ConfigDict(strict=False)

    behavior: Short | None = None
    since: Time = 0
    window_hours: Annotated[float, Field(gt=0, le=8760)] = 24.0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
