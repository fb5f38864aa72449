"""What may be recommended: rules as data, and what they mean as functions of arrays.

Letters: N items, C candidates, K cut-off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from nmtr.errors import UsageError
from nmtr.options import check_name

Exclude = Literal["bought", "seen", "nothing"]
DAY = 86_400_000  # milliseconds
OTHERS = "*"  # the repurchase window of every category that has none of its own
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Condition:
    """One attribute's values: any of `values`, or a number from `low` to `high`, both included.

    Values are compared as text: true, 7, 7.5. An item of which the attribute is not known meets no
    condition.
    """

    column: str
    values: tuple[str | int | float | bool, ...] = ()
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(map(_text, self.values)))
        bounds = [each for each in (self.low, self.high) if each is not None]
        if not self.column or bool(self.values) == bool(bounds):
            raise ValueError(
                "a condition needs a column, and either values or a low or high bound; got "
                f"{self.column!r}, {self.values}, {self.low} and {self.high}"
            )
        if any(math.isnan(each) for each in bounds) or (len(bounds) == 2 and bounds[0] > bounds[1]):
            raise ValueError(f"{self.column}: expected low <= high, got {self.low} and {self.high}")

    @classmethod
    def from_json(cls, found: Any) -> Condition:
        """{"column": ..., "in": [...]} or {"column": ..., "from": ..., "to": ...}."""
        names = {"column": "column", "in": "values", "from": "low", "to": "high"}
        if not isinstance(found, Mapping):
            raise UsageError("expected a condition such as {'column': 'brand', 'in': ['x']}")
        for name in found:
            check_name(name, list(names), where="a condition")
        given = {names[name]: value for name, value in found.items()}
        if "values" in given:
            given["values"] = _plain(given["values"], "in")
        if not isinstance(given.get("column"), str):
            raise UsageError(f"a condition's column: expected a name, got {given.get('column')!r}")
        for bound in ("low", "high"):
            if not _number(given.get(bound, 0)):
                raise UsageError(f"a condition's bounds: expected numbers, got {given[bound]!r}")
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error


@dataclass(frozen=True)
class Rules:
    """What a recommendation must keep to.

    exclude: what the user already met and is not to get again: what they `bought` (any target
    record), everything they have `seen` (any record), or `nothing`; None for what the data set was
    prepared for. exclude_items: ids. repurchase_days: per value of the column `category`, how many
    days after a purchase an item may come back; "*" for all other categories.
    allow: conditions that all must be met; deny: of which none may. in_stock: keep to the items
    that were posted as in stock, where any were.
    diversity: from 0, by score alone, to below 1: how much an item is held back for what is already
    chosen of its kind; diversify_by: a column, or "likeness" for the model's own.
    popularity_penalty: times log(1 + target records) is taken off the score.
    fallback: where nothing is left, popular items, of any slice, that keep to all other rules.
    """

    exclude: Exclude | None = None
    exclude_items: tuple[str | int, ...] = ()
    repurchase_days: tuple[tuple[str, float], ...] = ()
    allow: tuple[Condition, ...] = ()
    deny: tuple[Condition, ...] = ()
    in_stock: bool = True
    diversity: float = 0.0
    diversify_by: str = "category"
    popularity_penalty: float = 0.0
    fallback: bool = True
    category: str = "category"

    def __post_init__(self) -> None:
        if self.exclude is not None and self.exclude not in get_args(Exclude):
            raise ValueError(
                f"exclude: expected one of {', '.join(get_args(Exclude))}, got {self.exclude!r}"
            )
        if not 0 <= self.diversity < 1:  # a NaN is not
            raise ValueError(f"diversity: expected 0 <= diversity < 1, got {self.diversity}")
        if not 0 <= self.popularity_penalty < math.inf:
            raise ValueError(
                f"popularity_penalty: expected 0 or more, got {self.popularity_penalty}"
            )
        if any(not days >= 0 for _, days in self.repurchase_days):
            raise ValueError(f"repurchase_days: expected 0 or more, got {self.repurchase_days}")
        if self.repurchase_days and self.exclude == "seen":
            raise ValueError(
                "repurchase_days lets bought items back, which exclude=seen leaves out; use "
                "exclude=bought"
            )

    @classmethod
    def from_json(cls, found: Any) -> Rules:
        """Rules from what JSON holds; UsageError names what is wrong."""
        if not isinstance(found, Mapping):
            raise UsageError(f"rules: expected names and values, got {found!r}")
        given = dict(found)
        for name in given:
            check_name(name, [each.name for each in fields(cls)], where="rules")
        for name in ("allow", "deny"):
            if name in given:
                each = given[name]
                if not isinstance(each, list | tuple):
                    raise UsageError(f"rules, {name}: expected a list of conditions, got {each!r}")
                given[name] = tuple(Condition.from_json(one) for one in each)
        if "exclude_items" in given:
            given["exclude_items"] = _plain(given["exclude_items"], "exclude_items")
        if "repurchase_days" in given:
            days = given["repurchase_days"]
            if not isinstance(days, Mapping) or not all(map(_number, days.values())):
                raise UsageError(f"rules, repurchase_days: expected days by category, got {days}")
            given["repurchase_days"] = tuple((str(name), float(n)) for name, n in days.items())
        for name, kind in _KINDS.items():
            value = given.get(name)
            if name in given and not (_number(value) if kind is float else isinstance(value, kind)):
                raise UsageError(f"rules, {name}: expected {_WORDS[kind]}, got {value!r}")
        try:
            return cls(**given)
        except ValueError as error:
            raise UsageError(f"rules, {error}") from error


_KINDS: dict[str, type] = {
    "in_stock": bool, "fallback": bool, "diversity": float, "popularity_penalty": float,
    "diversify_by": str, "category": str,
}  # fmt: skip
_WORDS = {bool: "true or false", float: "a number", str: "a text"}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(values: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or not all(
        isinstance(each, str | int | float) for each in values
    ):
        raise UsageError(f"{name}: expected a list of texts or numbers, got {values!r}")
    return tuple(values)


def permitted(rules: Rules, catalogue: pl.DataFrame | None, n_items: int) -> Mask:
    """(N,) which items meet every condition of `allow` and none of `deny`."""
    found = np.ones(n_items, np.bool_)
    for condition in rules.allow:
        found &= meets(condition, catalogue)
    for condition in rules.deny:
        found &= ~meets(condition, catalogue)
    return found


def meets(condition: Condition, catalogue: pl.DataFrame | None) -> Mask:
    """(N,) which items meet a condition; UsageError where the catalogue cannot tell."""
    column = attribute(catalogue, condition.column)
    if condition.values:
        found = column.cast(pl.String).is_in([_written(column, each) for each in condition.values])
    elif column.dtype.is_numeric():
        low = -math.inf if condition.low is None else condition.low
        found = column.is_between(low, math.inf if condition.high is None else condition.high)
    else:
        raise UsageError(
            f"'{condition.column}' holds {column.dtype}, not numbers; give its values instead"
        )
    mask: Mask = found.fill_null(False).to_numpy()
    return mask


def attribute(catalogue: pl.DataFrame | None, name: str) -> pl.Series:
    """A column of the catalogue; UsageError, with those there are, where it has none."""
    if catalogue is None:
        raise UsageError(
            f"a rule asks for '{name}', and this model has no catalogue; bundle it with --items"
        )
    if name not in catalogue.columns:
        raise UsageError(
            f"the catalogue has no column '{name}'; it has {', '.join(catalogue.columns)}"
        )
    return catalogue.get_column(name)


def _written(column: pl.Series, value: object) -> str | None:
    """A value as the column would write it, so that 1 finds 1.0; None where it cannot be one."""
    if column.dtype == pl.Boolean:
        return str(value)
    found = pl.Series([str(value)]).cast(column.dtype, strict=False).cast(pl.String)[0]
    return None if found is None else str(found)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)  # type: ignore[call-overload]  # a float


def windows(rules: Rules, catalogue: pl.DataFrame | None, n_items: int, *, else_: float) -> Floats:
    """(N,) days after a purchase from which each item may come back; `else_` without a window."""
    days = dict(rules.repurchase_days)
    others = days.pop(OTHERS, else_)
    found = np.full(n_items, others, np.float32)
    if days:
        kinds = attribute(catalogue, rules.category).cast(pl.String)
        own = kinds.replace_strict(days, default=None, return_dtype=pl.Float32)
        found = own.fill_null(others).to_numpy(writable=True)
    return found


def still_held(days: Floats, bought: npt.NDArray[np.int64], now: int) -> npt.NDArray[np.bool_]:
    """Which purchases, at `bought` (n,) ms, are younger than their window of `days` (n,)."""
    ages = (now - bought.astype(np.float64)) / DAY
    held: npt.NDArray[np.bool_] = ages < days
    return held


def penalty(counts: npt.NDArray[np.int64], weight: float) -> Floats:
    """(N,) what is taken off the scores of items with so many target records."""
    return (weight * np.log1p(counts)).astype(np.float32)


def diversify(scores: Floats, likeness: Floats, k: int, weight: float) -> npt.NDArray[np.int64]:
    """The places of up to K candidates, chosen one by one: maximal marginal relevance.

    (1 - weight) * score - weight * the highest likeness to what was chosen before, the scores
    brought to 0..1. scores (C,); likeness (C, C). Carbonell and Goldstein, SIGIR 1998.
    """
    if not len(scores):
        return np.zeros(0, np.int64)
    low, high = float(scores.min()), float(scores.max())
    value = (1 - weight) * (scores - low) / (high - low if high > low else 1)
    nearest = np.full(len(scores), -np.inf, np.float32)
    chosen = [int(np.argmax(value))]
    while len(chosen) < min(k, len(scores)):
        value[chosen[-1]] = -np.inf
        nearest = np.maximum(nearest, likeness[chosen[-1]])
        chosen.append(int(np.argmax(value - weight * nearest)))
    return np.array(chosen, np.int64)
