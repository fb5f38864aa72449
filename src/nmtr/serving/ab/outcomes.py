"""Who was shown lists of which arm, and what they did then: read from the store in bounded parts.

Visitors who logged in and did something are the user; a person who met several arms counts for
the first. Memory holds a line for each person and list, not their items.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from nmtr.serving.store import Store

PERSON = "person"
BEST = 0.5  # a propensity above it is that of an item in its place by rank


@dataclass(frozen=True)
class Outcomes:
    """persons: person, arm, first (time of the first list), arms (how many were met), done (first
    time of the outcome after `first`, null if never). lists: person (null for nobody), arm, cited
    (outcomes that name the list), explored, and of the policy that shows the best: rewards Σ w r,
    weights Σ w, places.
    """

    persons: pl.DataFrame
    lists: pl.DataFrame


def read(store: Store, arms: Collection[str], behavior: str, since: int) -> Outcomes:
    """Outcomes of lists of these arms' labels shown from `since` on, in ms."""
    done, cited, owners = _events(store, behavior)
    lists = _lists(store, arms, since, cited, owners)
    persons = (
        lists.drop_nulls(PERSON)
        .sort("at")
        .group_by(PERSON, maintain_order=True)
        .agg(pl.col("arm").first(), first=pl.col("at").first(), arms=pl.col("arm").n_unique())
    )
    later = (
        persons.join(done, on=PERSON)
        .filter(pl.col("time") >= pl.col("first"))
        .group_by(PERSON)
        .agg(done=pl.col("time").min())
    )
    return Outcomes(persons.join(later, on=PERSON, how="left"), lists)


def _events(store: Store, behavior: str) -> tuple[pl.DataFrame, pl.DataFrame, Mapping[str, str]]:
    """Times of the outcome by person; (recommendation, item) that it cites; visitors' owners."""
    done, cited = [], []
    owners: dict[str, str] = {}
    for frame in store.frames():
        owned = frame.filter(pl.col("user_id").is_not_null() & pl.col("visitor_id").is_not_null())
        owners.update(owned.select("visitor_id", "user_id").iter_rows())
        found = frame.filter(pl.col("behavior") == behavior)
        done.append(found.select(_person("user_id", "visitor_id"), time=pl.col("timestamp")))
        cited.append(
            found.filter(pl.col("recommendation_id").is_not_null())
            .select("recommendation_id", "item_id").unique()
        )  # fmt: skip
    times = {PERSON: pl.String, "time": pl.Datetime("us", "UTC")}
    names = {"recommendation_id": pl.String, "item_id": pl.String}
    return _joined(done, times), _joined(cited, names).unique(), owners


def _lists(
    store: Store, arms: Collection[str], since: int, cited: pl.DataFrame, owners: Mapping[str, str]
) -> pl.DataFrame:
    schema: dict[str, Any] = {
        PERSON: pl.String, "arm": pl.String, "at": pl.Datetime("us", "UTC"), "cited": pl.Int64,
        "explored": pl.Boolean, "rewards": pl.Float64, "weights": pl.Float64, "places": pl.Int64,
    }  # fmt: skip
    start = pl.lit(since, pl.Int64).cast(pl.Datetime("ms", "UTC")).cast(pl.Datetime("us", "UTC"))
    parts = []
    for frame in store.exposures():
        chosen = frame.filter(pl.col("arm").is_in(list(arms)) & (pl.col("at") >= start))
        owner = pl.col("visitor_id").replace_strict(owners, default=None, return_dtype=pl.String)
        heads = chosen.with_columns(user_id=pl.coalesce("user_id", owner)).select(
            "recommendation_id", _person("user_id", "visitor_id"), "arm", "at"
        )
        places = (
            chosen.select("recommendation_id", item_id="items", p="propensities")
            .explode("item_id", "p")
            .drop_nulls()
            .join(cited.with_columns(r=1), on=["recommendation_id", "item_id"], how="left")
            .with_columns(w=pl.when(pl.col("p") > BEST).then(1 / pl.col("p")).otherwise(0.0))
            .group_by("recommendation_id")
            .agg(
                cited=pl.col("r").sum(), explored=(pl.col("p") < BEST).any(),
                rewards=(pl.col("w") * pl.col("r").fill_null(0)).sum(),
                weights=pl.col("w").sum(), places=pl.len(),
            )
        )  # fmt: skip
        found = heads.join(places, on="recommendation_id", how="left")
        parts.append(found.select(*(pl.col(name).cast(kind) for name, kind in schema.items())))
    return _joined(parts, schema).with_columns(
        pl.col("cited", "rewards", "weights", "places").fill_null(0),
        pl.col("explored").fill_null(False),
    )


def _person(user: str, visitor: str) -> pl.Expr:
    """A text that tells persons apart; null for nobody."""
    return pl.coalesce(pl.lit("u:") + pl.col(user), pl.lit("v:") + pl.col(visitor)).alias(PERSON)


def _joined(parts: list[pl.DataFrame], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)
