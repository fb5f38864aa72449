"""From an event log to a prepared data set: ids to indices, events in order, the hold-out rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nmtr.data.events import EventLog, ReadOptions, read_events
from nmtr.data.interactions import Interactions
from nmtr.data.reading.places import scheme_of, without_secrets
from nmtr.data.reading.sources import is_database, of_behavior
from nmtr.data.vocabulary import Vocabulary, hash_ids
from nmtr.errors import DataError, UsageError

RULES = ("random", "last", "time:CUT", "FILE")


def prepare(
    log: EventLog,
    *,
    behaviors: Sequence[str],
    holdout: str | Path = "auto",
    repurchase: bool = False,
    seed: int = 0,
    options: ReadOptions | None = None,
) -> Interactions:
    """Build a prepared data set from a log.

    behaviors: ordered, the target last. holdout: `random` (one target pair per user, by a hash of
    the ids), `last` (each user's last first purchase), `time:2026-01-31` or `time:0.9` (a global
    cut, or the share of target events before it), a file of held-out pairs (`buy=FILE` where it
    holds buys and does not say so), or `auto`: time:0.9 where there are times, else random. Raises
    UsageError or DataError with what to do.
    """
    behaviors = tuple(behaviors)
    frame = log.frame
    _check_behaviors(frame, behaviors)
    rule, pairs = _holdout_rule(str(holdout), log, behaviors, options or ReadOptions())
    rule["seed"] = seed

    users = Vocabulary(_distinct(frame, pairs, "user_id"))
    items = Vocabulary(_distinct(frame, pairs, "item_id"))
    columns = _index_events(frame, users, items, behaviors, log.has_time)
    held = {} if pairs is None else _index_pairs(pairs, users, items)
    code = columns["code"]
    counts = {name: int((code == r).sum()) for r, name in enumerate(behaviors)}
    manifest = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "behaviors": list(behaviors),
        "users": len(users),
        "items": len(items),
        "events": frame.height,
        "events_per_behavior": counts,
        "undo_events": int((code < 0).sum()),
        "repurchase": repurchase,
        "holdout": rule,
        "sources": list(log.sources),
        "read": asdict(log.report),
        "options": plain(asdict(options)) if options else {},
    }
    return Interactions(
        manifest=manifest,
        users=users,
        items=items,
        user_hash=hash_ids(users.ids),
        item_hash=hash_ids(items.ids),
        **columns,
        **held,
    )


def check_names(behaviors: tuple[str, ...]) -> None:
    """Raise UsageError where no behaviour is named, or one twice."""
    if not behaviors:
        raise UsageError(
            "no behaviour was named; give them in order, the target last: --behaviors view,cart,buy"
        )
    if len(set(behaviors)) < len(behaviors):
        raise UsageError(f"a behaviour is named twice in {','.join(behaviors)}")


def _check_behaviors(frame: pl.DataFrame, behaviors: tuple[str, ...]) -> None:
    check_names(behaviors)
    if frame.height == 0:
        raise DataError("the log has no events left to learn from; see what was dropped and why")
    names = frame.get_column("behavior").cast(pl.String)
    unknown = sorted(set(names.unique().to_list()) - set(behaviors))
    refuse_missing(names.filter(~frame.get_column("undo")).unique().to_list(), behaviors)
    if unknown:
        raise DataError(
            f"the log has behaviour {', '.join(map(repr, unknown))}, which is not in "
            f"{', '.join(behaviors)}; add it with --behaviors or drop it with --unknown drop"
        )


def refuse_missing(present: Sequence[str], behaviors: Sequence[str]) -> None:
    """Raise DataError where a behaviour that was named has no event."""
    missing = [each for each in behaviors if each not in present]
    if missing:
        raise DataError(
            f"the log has no event of behaviour {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, sorted(present)))}. Name those with --behaviors, or rename with "
            "--map"
        )


def _distinct(frame: pl.DataFrame, pairs: pl.DataFrame | None, column: str) -> pl.Series:
    """Ids in order of first appearance, those that only a hold-out file names last."""
    ids = frame.get_column(column).unique(maintain_order=True)
    if pairs is None:
        return ids
    return pl.concat([ids, pairs.get_column(column).cast(ids.dtype)]).unique(maintain_order=True)


def _index_events(
    frame: pl.DataFrame,
    users: Vocabulary,
    items: Vocabulary,
    behaviors: tuple[str, ...],
    has_time: bool,
) -> dict[str, Any]:
    order = pl.Enum(behaviors)
    code = frame.get_column("behavior").cast(pl.String).cast(order).to_physical().cast(pl.Int8)
    undo = frame.get_column("undo")
    table = pl.DataFrame(
        {
            "user": users.indices(frame.get_column("user_id")).astype(np.int32),
            "item": items.indices(frame.get_column("item_id")).astype(np.int32),
            "code": code.zip_with(~undo, -1 - code),
        }
    )
    keys = ["user"]
    if has_time:
        table = table.with_columns(frame.get_column("timestamp").alias("time"))
        keys.append("time")
    table = table.sort(keys, maintain_order=True)
    indptr = np.zeros(len(users) + 1, np.int64)
    np.cumsum(
        np.bincount(table.get_column("user").to_numpy(), minlength=len(users)), out=indptr[1:]
    )
    columns = {name: table.get_column(name).to_numpy() for name in table.columns if name != "user"}
    return {"indptr": indptr} | columns


def _index_pairs(pairs: pl.DataFrame, users: Vocabulary, items: Vocabulary) -> dict[str, Any]:
    return {
        "holdout_user": users.indices(pairs.get_column("user_id")).astype(np.int32),
        "holdout_item": items.indices(pairs.get_column("item_id")).astype(np.int32),
    }


def _holdout_rule(
    text: str, log: EventLog, behaviors: tuple[str, ...], options: ReadOptions
) -> tuple[dict[str, Any], pl.DataFrame | None]:
    rule = rule_of(text, has_time=log.has_time)
    if rule["rule"] == "time":
        times = _of_behavior(log.frame, behaviors[-1]).get_column("timestamp").sort()
        return {"rule": "time", "cut": cut_of(str(rule["cut"]), times, behaviors[-1])}, None
    if rule["rule"] == "file":
        shown = str(rule["file"])
        return rule, held_pairs(text, log.frame.schema, behaviors[-1], options, shown=shown)
    return rule, None


def rule_of(text: str, *, has_time: bool) -> dict[str, Any]:
    """The hold-out rule that a text names, a cut as it is written there.

    Raises UsageError for an unknown rule, or one that the log's columns cannot serve.
    """
    if text == "auto":
        text = "time:0.9" if has_time else "random"
    if text == "random":
        return {"rule": "random"}
    if text == "last" or text.startswith("time:"):
        if not has_time:
            raise UsageError(
                f"--holdout {text} needs times, and the log has no time column; name it with "
                "--time, or use --holdout random"
            )
        if text == "last":
            return {"rule": "last"}
        return {"rule": "time", "cut": text.removeprefix("time:")}
    place = str(of_behavior(text)[1])
    if is_database(scheme_of(place)):
        raise UsageError(
            f"--holdout {without_secrets(place)}: held-out pairs are read from files and tables, "
            "not from a database; write them to a file"
        )
    if not scheme_of(place) and not Path(place).exists():
        raise UsageError(f"--holdout {text}: no such file, and none of {', '.join(RULES)}")
    return {"rule": "file", "file": text.removesuffix(place) + without_secrets(place)}


def cut_of(text: str, times: pl.Series, target: str) -> int:
    """The cut in milliseconds: a date, a number of seconds or ms, or a share of target events.

    times: those of the target events, sorted. Raises UsageError where it is none or not among them.
    """
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise _unreadable(text) from None
        cut = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    else:
        if not math.isfinite(number):
            raise _unreadable(text)
        if 0 < number < 1:
            cut = int(times[int(number * len(times))])
        else:
            cut = int(number if number > 1e11 else number * 1000)
    if not (times[0] < cut <= times[-1]):
        first, last = (datetime.fromtimestamp(times[at] / 1000, UTC).isoformat() for at in (0, -1))
        raise UsageError(
            f"--holdout time:{text}: the {target} events lie between {first} and {last}; cut inside"
        )
    return cut


def _unreadable(cut: str) -> UsageError:
    return UsageError(
        f"--holdout time:{cut}: expected a date (time:2026-01-31), a unix time, "
        "or a share (time:0.9)"
    )


def _of_behavior(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The events of one behaviour, without those that undo it."""
    return frame.filter((pl.col("behavior").cast(pl.String) == name) & ~pl.col("undo"))


def held_pairs(
    text: str, known: Mapping[str, pl.DataType], target: str, options: ReadOptions, *, shown: str
) -> pl.DataFrame:
    """The distinct pairs that a file holds out, of ids of the types known of the log's."""
    options = replace(options, query=None, table=None)  # of the log, not of the held-out pairs
    held = _of_behavior(read_events([text], options).frame, target)
    if held.height == 0:
        raise DataError(f"{shown} holds no '{target}' event to hold out")
    for column in ("user_id", "item_id"):
        ours, theirs = known[column], held.schema[column]
        if ours != theirs:
            raise DataError(
                f"{column} is {ours} in the log and {theirs} in {shown}; ids must be of one type"
            )
    return held.select("user_id", "item_id").unique(maintain_order=True)


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON holds them."""
    return {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in options.items()
    }
