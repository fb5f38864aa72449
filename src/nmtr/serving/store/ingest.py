"""Storing what came in: one transaction for many calls, every event once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, insert, select

from nmtr.serving.store.database import parts
from nmtr.serving.store.records import Event, Exposure, Receipt, now
from nmtr.serving.store.schema import events, exposures, tombstones
from nmtr.serving.store.tombstones import Person, Tombstones, count_refused
from nmtr.serving.store.writer import Ingest


class Content(NamedTuple):
    """What makes two events with one id the same event."""

    user_id: str | None
    visitor_id: str | None
    item_id: str
    behavior: str
    timestamp: int
    recommendation_id: str | None

    def is_of(self, event: Event) -> bool:
        """Whether `event` says this; a time that it leaves out is any time."""
        time = self.timestamp if event.timestamp is None else event.timestamp
        return self == _content(event, time)


# Statements are made once: making one costs more than running it.
HEAD = select(
    select(events.c.received_at).order_by(events.c.seq.desc()).limit(1).scalar_subquery(),
    select(tombstones.c.hash).exists(),
)
KNOWN = select(*(events.c[name] for name in ("event_id", *Content._fields))).where(
    events.c.event_id.in_(bindparam("ids", expanding=True))
)
SHOWN = select(exposures.c.recommendation_id).where(
    exposures.c.recommendation_id.in_(bindparam("ids", expanding=True))
)
ADD_EVENTS, ADD_EXPOSURES = insert(events), insert(exposures)


def ingest(connection: Connection, calls: Sequence[Ingest], *, erased: Tombstones) -> list[Receipt]:
    """Store the calls' events and exposures; the caller's transaction excludes other writers.

    An event is received no earlier than the one before it, whatever the wall clock does.
    """
    last, any_erased = connection.execute(HEAD).one()
    received = max(now(), last or 0)
    given = [event for call in calls for event in call.events]
    shown = [exposure for call in calls for exposure in call.exposures]
    gone: dict[Person, str] = {}
    if any_erased:
        either: list[Event | Exposure] = [*given, *shown]
        gone = erased.erased(connection, {who for each in either if (who := _who(each))})
    known = _known(connection, [each.event_id for each in given if each.event_id is not None])
    rows: list[dict[str, Any]] = []
    refused: Counter[str] = Counter()
    receipts = [_judge(call.events, received, gone, known, rows, refused) for call in calls]
    if rows:
        connection.execute(ADD_EVENTS, rows)
    count_refused(connection, refused)
    _remember(connection, [each for each in shown if _who(each) not in gone], received)
    return receipts


def _judge(
    given: Iterable[Event],
    received: int,
    gone: dict[Person, str],
    known: dict[str, Content],
    rows: list[dict[str, Any]],
    refused: Counter[str],
) -> Receipt:
    """Add the rows of one call's new events, and what is known by them."""
    accepted = duplicates = erased = 0
    conflicts: list[str] = []
    for event in given:
        who = _who(event)
        if who in gone:
            refused[gone[who]] += 1
            erased += 1
            continue
        name = event.event_id or ""  # no id is empty
        if before := known.get(name):
            if before.is_of(event):
                duplicates += 1
            else:
                conflicts.append(name)
            continue
        content = _content(event, received if event.timestamp is None else event.timestamp)
        rows.append(content._asdict() | {"event_id": event.event_id, "received_at": received})
        accepted += 1
        if name:
            known[name] = content
    return Receipt(accepted, duplicates, tuple(conflicts), erased)


def _known(connection: Connection, ids: Iterable[str]) -> dict[str, Content]:
    """The events that are there, by their ids."""
    found: dict[str, Content] = {}
    for part in parts(dict.fromkeys(ids)):
        rows = connection.execute(KNOWN, {"ids": part})
        found |= {row[0]: Content(*row[1:]) for row in rows}
    return found


def _remember(connection: Connection, shown: Sequence[Exposure], received: int) -> None:
    """Store exposures; of two with one recommendation id the first stays."""
    first: dict[str, Exposure] = {}
    for each in shown:
        first.setdefault(each.recommendation_id, each)
    for part in parts(first):
        there = set(connection.execute(SHOWN, {"ids": part}).scalars())
        rows = [_exposure(first[each], received) for each in part if each not in there]
        if rows:
            connection.execute(ADD_EXPOSURES, rows)


def _exposure(each: Exposure, received: int) -> dict[str, Any]:
    return {
        "recommendation_id": each.recommendation_id,
        "user_id": each.user_id,
        "visitor_id": each.visitor_id,
        "at": received if each.at is None else each.at,
        "arm": each.arm,
        "model": each.model,
        "items": _text(each.items),
        "scores": _text(each.scores),
        "propensities": _text(each.propensities),
    }


def _text(values: Sequence[str] | Sequence[float]) -> str:
    return orjson.dumps(list(values)).decode()


def _content(event: Event, time: int) -> Content:
    return Content(
        event.user_id,
        event.visitor_id,
        event.item_id,
        event.behavior,
        time,
        event.recommendation_id,
    )


def _who(each: Event | Exposure) -> Person | None:
    if each.user_id is not None:
        return ("user", each.user_id)
    return None if each.visitor_id is None else ("visitor", each.visitor_id)
